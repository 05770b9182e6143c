-- A look-up by UUID: what was decided of this request, or of the next one; refusals too.
-- $request_id = 00000000-0000-0000-0000-000000000000: the client's id of the request
SELECT request_id, rider_id, outcome, ride_id, driver_id, fare_cents, decided_at
FROM requests
WHERE request_id >= $request_id
ORDER BY request_id
LIMIT 1
