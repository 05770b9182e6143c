-- A look-up: a page of rides, from one number to another.
-- $first = 1: the first ride of the page
-- $last = 20: the last one
SELECT ride_id, request_id, rider_id, driver_id, city_id, requested_at, status, fare_cents
FROM rides
WHERE ride_id BETWEEN $first AND $last
ORDER BY ride_id
