-- A look-up by UUID: the decision on a request, or on the one with the next id; includes refusals.
-- $request_id = 00000000-0000-0000-0000-000000000000: the request's id, set by the client
SELECT request_id, rider_id, outcome, ride_id, driver_id, fare_cents, decided_at
FROM requests
WHERE request_id >= $request_id
ORDER BY request_id
LIMIT 1
