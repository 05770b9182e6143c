-- The booking and its cancellation in DuckDB, with the statements of oltp/booking.sql and oltp/lifecycle.sql. A transaction
-- reads one snapshot. It fails with a conflict if another one has changed a row that it writes, and is retried.

-- name: account
-- the account of a rider and its available balance
SELECT account_id, balance_cents - held_cents FROM accounts
WHERE account_id = (SELECT account_id FROM riders WHERE rider_id = $rider_id);

-- name: city
-- the city of both zones, with its time zone
SELECT city_id, time_zone FROM cities
WHERE city_id = (SELECT city_id FROM zones WHERE zone_id = $pickup_zone_id)
  AND city_id = (SELECT city_id FROM zones WHERE zone_id = $dropoff_zone_id);

-- name: under_way
-- whether the rider has an active ride
SELECT count(*) FROM rides WHERE rider_id = $rider_id AND status IN ('assigned', 'started');

-- name: near
-- an available driver in the zone
SELECT driver_id FROM drivers
WHERE city_id = $city_id AND zone_id = $pickup_zone_id AND status = 'available' ORDER BY random() LIMIT 1;

-- name: far
-- an available driver in the city
SELECT driver_id FROM drivers WHERE city_id = $city_id AND status = 'available' ORDER BY random() LIMIT 1;

-- name: claim
-- the driver
UPDATE drivers SET status = 'busy' WHERE driver_id = $driver_id;

-- name: hold
-- the fare
UPDATE accounts SET held_cents = held_cents + $fare_cents WHERE account_id = $account_id;

-- name: ride
-- now() is the start of the transaction, after the commit of all that it sees
INSERT INTO rides (ride_id, request_id, rider_id, driver_id, city_id, pickup_zone_id, dropoff_zone_id, requested_at,
                   requested_local, assigned_at, distance_metres, fare_cents, status)
VALUES (nextval('ride_ids'), $request_id, $rider_id, $driver_id, $city_id, $pickup_zone_id, $dropoff_zone_id, now(),
        now() AT TIME ZONE $time_zone, now(), $distance_metres, $fare_cents, 'assigned')
RETURNING ride_id;

-- name: payment
-- the held fare
INSERT INTO payments VALUES ($ride_id, $fare_cents, 0, 0, 'held');

-- name: assigned
-- the first event
INSERT INTO ride_events VALUES ($ride_id, 1, 'assigned', now());

-- name: request
-- the decision
INSERT INTO requests VALUES ($request_id, $rider_id, $fare_cents, $ride_id, $driver_id, now(), $pickup_zone_id,
                             $dropoff_zone_id, $distance_metres, $outcome);

-- name: cancel
-- the ride
UPDATE rides SET status = 'cancelled', cancel_reason = 'rider', ended_at = now()
WHERE ride_id = $ride_id AND status = 'assigned';

-- name: void
-- the payment
UPDATE payments SET status = 'voided' WHERE ride_id = $ride_id;

-- name: release_hold
-- the fare
UPDATE accounts SET held_cents = held_cents - $fare_cents WHERE account_id = $account_id;

-- name: free
-- the driver
UPDATE drivers SET status = 'available' WHERE driver_id = $driver_id;

-- name: cancelled
-- the second event
INSERT INTO ride_events VALUES ($ride_id, 2, 'cancelled', now());
