-- A look-up: a rider's open ride, with its driver, pickup zone and held amount.
-- $rider_id = 1: the rider's id
SELECT
    rides.ride_id,
    rides.status,
    drivers.name AS driver,
    zones.name AS pickup,
    rides.assigned_at,
    payments.held_cents
FROM rides
JOIN drivers ON drivers.driver_id = rides.driver_id
JOIN zones ON zones.zone_id = rides.pickup_zone_id
JOIN payments ON payments.ride_id = rides.ride_id
WHERE rides.rider_id = $rider_id AND rides.status IN ('assigned', 'started')
ORDER BY rides.ride_id
