-- A look-up: the newest ride with its rider, driver, route and payment.
SELECT
    rides.ride_id,
    riders.username AS rider,
    drivers.name AS driver,
    pickup.name AS pickup,
    dropoff.name AS dropoff,
    rides.requested_at,
    rides.status,
    rides.fare_cents,
    payments.status AS payment
FROM rides
JOIN riders ON riders.rider_id = rides.rider_id
JOIN drivers ON drivers.driver_id = rides.driver_id
JOIN zones AS pickup ON pickup.zone_id = rides.pickup_zone_id
JOIN zones AS dropoff ON dropoff.zone_id = rides.dropoff_zone_id
JOIN payments ON payments.ride_id = rides.ride_id
WHERE rides.ride_id = (SELECT MAX(ride_id) FROM rides)
ORDER BY rides.ride_id
