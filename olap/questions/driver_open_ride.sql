-- A look-up: what is this driver doing now, and on which ride if on one?
-- $driver_id = 1: which driver
SELECT
    drivers.driver_id,
    drivers.name AS driver,
    drivers.status,
    rides.ride_id,
    rides.status AS ride_status,
    rides.requested_at,
    rides.dropoff_zone_id
FROM drivers
LEFT JOIN rides ON rides.driver_id = drivers.driver_id AND rides.status IN ('assigned', 'started')
WHERE drivers.driver_id = $driver_id
ORDER BY drivers.driver_id
