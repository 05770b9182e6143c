-- A look-up: one ride by its id, with its rider, driver and payment.
-- $ride_id = 1: the ride's id
SELECT
    rides.ride_id,
    rides.status,
    rides.cancel_reason,
    riders.username AS rider,
    drivers.name AS driver,
    rides.requested_at,
    rides.ended_at,
    rides.fare_cents,
    payments.status AS payment,
    payments.captured_cents,
    payments.tip_cents
FROM rides
JOIN riders ON riders.rider_id = rides.rider_id
JOIN drivers ON drivers.driver_id = rides.driver_id
JOIN payments ON payments.ride_id = rides.ride_id
WHERE rides.ride_id = $ride_id
ORDER BY rides.ride_id
