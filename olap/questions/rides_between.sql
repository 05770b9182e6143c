-- A look-up: a page of rides, by a range of ids.
-- $first = 1: the first ride_id
-- $last = 20: the last ride_id
SELECT ride_id, request_id, rider_id, driver_id, city_id, requested_at, status, fare_cents
FROM rides
WHERE ride_id BETWEEN $first AND $last
ORDER BY ride_id
