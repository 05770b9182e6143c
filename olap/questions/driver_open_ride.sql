-- A look-up: what is a driver's status, and which ride is open, if any?
-- $driver_id = 1: the driver's id
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
