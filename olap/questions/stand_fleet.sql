-- A look-up: the number of drivers in a zone, by status.
-- $zone_id = 1002: the zone's id
SELECT drivers.status, COUNT(*) AS drivers
FROM zones
JOIN drivers ON drivers.city_id = zones.city_id AND drivers.zone_id = zones.zone_id
WHERE zones.zone_id = $zone_id
GROUP BY drivers.status
ORDER BY drivers.status
