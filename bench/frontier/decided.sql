-- What the store has decided of these requests, and in which transactions.
SELECT request_id, outcome, tx FROM requests WHERE request_id = ANY (%(request_ids)s::uuid[])
