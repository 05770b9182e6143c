-- A look-up: the ten newest rides, as on a dispatcher's screen.
SELECT
    rides.ride_id,
    riders.username AS rider,
    drivers.name AS driver,
    rides.status,
    rides.requested_at,
    rides.fare_cents
FROM rides
JOIN riders ON riders.rider_id = rides.rider_id
JOIN drivers ON drivers.driver_id = rides.driver_id
ORDER BY rides.ride_id DESC
LIMIT 10
