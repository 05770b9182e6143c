-- The booking and its cancellation in DuckDB, with the statements of oltp/booking.sql and oltp/lifecycle.sql. A transaction
-- reads one snapshot. It fails with a conflict if another one has changed a row that it writes, and is retried.

-- name: account
-- Read the account of the rider and its available balance.
SELECT account_id, balance_cents - held_cents FROM accounts
WHERE account_id = (SELECT account_id FROM riders WHERE rider_id = $rider_id);

-- name: city
-- Read the city of both zones and its time zone. No row if the zones are in different cities.
SELECT city_id, time_zone FROM cities
WHERE city_id = (SELECT city_id FROM zones WHERE zone_id = $pickup_zone_id)
  AND city_id = (SELECT city_id FROM zones WHERE zone_id = $dropoff_zone_id);

-- name: under_way
-- Count the active rides of the rider.
SELECT count(*) FROM rides WHERE rider_id = $rider_id AND status IN ('assigned', 'started');

-- name: near
-- Select a random available driver in the pickup zone.
SELECT driver_id FROM drivers
WHERE city_id = $city_id AND zone_id = $pickup_zone_id AND status = 'available' ORDER BY random() LIMIT 1;

-- name: far
-- Select a random available driver in the city.
SELECT driver_id FROM drivers WHERE city_id = $city_id AND status = 'available' ORDER BY random() LIMIT 1;

-- name: claim
-- Set the driver to busy.
UPDATE drivers SET status = 'busy' WHERE driver_id = $driver_id;

-- name: hold
-- Hold the fare on the account of the rider.
UPDATE accounts SET held_cents = held_cents + $fare_cents WHERE account_id = $account_id;

-- name: ride
-- Insert the ride. now() is the start of the transaction; everything that the transaction reads was committed before.
INSERT INTO rides (ride_id, request_id, rider_id, driver_id, city_id, pickup_zone_id, dropoff_zone_id, requested_at,
                   requested_local, assigned_at, distance_metres, fare_cents, status)
VALUES (nextval('ride_ids'), $request_id, $rider_id, $driver_id, $city_id, $pickup_zone_id, $dropoff_zone_id, now(),
        now() AT TIME ZONE $time_zone, now(), $distance_metres, $fare_cents, 'assigned')
RETURNING ride_id;

-- name: payment
-- Insert the payment, which holds the fare.
INSERT INTO payments VALUES ($ride_id, $fare_cents, 0, 0, 'held');

-- name: assigned
-- Insert the first event.
INSERT INTO ride_events VALUES ($ride_id, 1, 'assigned', now());

-- name: request
-- Insert the decision.
INSERT INTO requests VALUES ($request_id, $rider_id, $fare_cents, $ride_id, $driver_id, now(), $pickup_zone_id,
                             $dropoff_zone_id, $distance_metres, $outcome);

-- name: cancel
-- Cancel the ride.
UPDATE rides SET status = 'cancelled', cancel_reason = 'rider', ended_at = now()
WHERE ride_id = $ride_id AND status = 'assigned';

-- name: void
-- Void the payment.
UPDATE payments SET status = 'voided' WHERE ride_id = $ride_id;

-- name: release_hold
-- Release the held fare.
UPDATE accounts SET held_cents = held_cents - $fare_cents WHERE account_id = $account_id;

-- name: free
-- Set the driver to available.
UPDATE drivers SET status = 'available' WHERE driver_id = $driver_id;

-- name: cancelled
-- Insert the second event.
INSERT INTO ride_events VALUES ($ride_id, 2, 'cancelled', now());
