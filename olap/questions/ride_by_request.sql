-- A look-up by UUID: the ride of a request, or of the next request id that has a ride.
-- $request_id = 00000000-0000-0000-0000-000000000000: the request's id, set by the client
SELECT request_id, ride_id, rider_id, driver_id, requested_at, status, fare_cents
FROM rides
WHERE request_id >= $request_id
ORDER BY request_id
LIMIT 1
