-- A look-up: all open rides, with driver, rider and pickup zone.
SELECT
    rides.ride_id,
    rides.status,
    drivers.name AS driver,
    riders.username AS rider,
    zones.name AS pickup,
    rides.requested_at
FROM rides
JOIN drivers ON drivers.driver_id = rides.driver_id
JOIN riders ON riders.rider_id = rides.rider_id
JOIN zones ON zones.zone_id = rides.pickup_zone_id
WHERE rides.status IN ('assigned', 'started')
ORDER BY rides.ride_id
