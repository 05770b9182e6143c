-- A look-up: which drivers are available in a zone?
-- $zone_id = 1002: the zone's id
SELECT drivers.driver_id, drivers.name AS driver, drivers.account_id
FROM zones
JOIN drivers ON drivers.city_id = zones.city_id AND drivers.zone_id = zones.zone_id
WHERE zones.zone_id = $zone_id AND drivers.status = 'available'
ORDER BY drivers.driver_id
