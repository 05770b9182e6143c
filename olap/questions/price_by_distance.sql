-- What does a kilometre cost on short and on long rides? Uses 4 of the 40 columns of a wide fact table.
-- The fact table joins a ride with all tables around it (a star schema). A row store reads all columns of a
-- ride; a column store reads the four.
WITH facts AS (
    SELECT
        rides.ride_id, rides.request_id, rides.rider_id, rides.driver_id, rides.city_id,
        rides.pickup_zone_id, rides.dropoff_zone_id, rides.requested_at, rides.requested_local,
        rides.assigned_at, rides.started_at, rides.ended_at, rides.distance_metres, rides.fare_cents,
        rides.status, rides.cancel_reason,
        payments.held_cents, payments.captured_cents, payments.tip_cents, payments.status AS payment_status,
        riders.username AS rider, riders.account_id AS rider_account_id, riders.city_id AS rider_city_id,
        drivers.name AS driver, drivers.account_id AS driver_account_id, drivers.city_id AS driver_city_id,
        drivers.zone_id AS driver_zone_id, drivers.status AS driver_status,
        cities.name AS city, cities.time_zone,
        pickup.name AS pickup, pickup.city_id AS pickup_city_id,
        dropoff.name AS dropoff, dropoff.city_id AS dropoff_city_id,
        requests.outcome, requests.decided_at, requests.fare_cents AS requested_fare_cents,
        requests.distance_metres AS requested_distance_metres,
        requests.pickup_zone_id AS requested_pickup_zone_id, requests.dropoff_zone_id AS requested_dropoff_zone_id
    FROM rides
    LEFT JOIN payments ON payments.ride_id = rides.ride_id
    LEFT JOIN riders ON riders.rider_id = rides.rider_id
    LEFT JOIN drivers ON drivers.driver_id = rides.driver_id
    LEFT JOIN cities ON cities.city_id = rides.city_id
    LEFT JOIN zones AS pickup ON pickup.zone_id = rides.pickup_zone_id
    LEFT JOIN zones AS dropoff ON dropoff.zone_id = rides.dropoff_zone_id
    LEFT JOIN requests ON requests.request_id = rides.request_id
),
rides_by_distance AS (
    SELECT
        city_id,
        CASE WHEN distance_metres < 2000 THEN 0 WHEN distance_metres < 5000 THEN 2
             WHEN distance_metres < 10000 THEN 5 WHEN distance_metres < 20000 THEN 10 ELSE 20 END AS from_km,
        distance_metres,
        fare_cents
    FROM facts
    WHERE status = 'completed'
)
SELECT
    city_id,
    from_km,
    COUNT(*) AS rides,
    CAST(SUM(distance_metres) AS BIGINT) AS distance_metres,
    CAST(SUM(fare_cents) AS BIGINT) AS fares_cents,
    CASE WHEN SUM(distance_metres) > 0
         THEN CAST(SUM(fare_cents) AS DOUBLE PRECISION) * 1000 / CAST(SUM(distance_metres) AS DOUBLE PRECISION)
    END AS cents_per_km
FROM rides_by_distance
GROUP BY city_id, from_km
ORDER BY city_id, from_km
