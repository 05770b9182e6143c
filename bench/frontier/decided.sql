-- The outcome and the transaction of these requests.
SELECT request_id, outcome, tx FROM requests WHERE request_id = ANY (%(request_ids)s::uuid[])
