-- Where should drivers wait: which ten zones have the most requests?
SELECT
    zones.zone_id,
    zones.name AS zone,
    cities.name AS city,
    COUNT(*) AS requests,
    AVG(rides.distance_metres) AS average_distance_metres
FROM rides
JOIN zones ON zones.zone_id = rides.pickup_zone_id
JOIN cities ON cities.city_id = zones.city_id
GROUP BY zones.zone_id, zones.name, cities.name
ORDER BY requests DESC, zones.zone_id
LIMIT 10
