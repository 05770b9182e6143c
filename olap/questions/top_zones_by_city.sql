-- Which three dropoff zones of each city have the highest total fares?
WITH per_zone AS (
    SELECT city_id, dropoff_zone_id AS zone_id, COUNT(*) AS rides, CAST(SUM(fare_cents) AS BIGINT) AS fares_cents
    FROM rides
    WHERE status = 'completed'
    GROUP BY city_id, dropoff_zone_id
),
placed AS (
    SELECT
        city_id,
        zone_id,
        rides,
        fares_cents,
        ROW_NUMBER() OVER (PARTITION BY city_id ORDER BY fares_cents DESC, zone_id) AS place
    FROM per_zone
)
SELECT cities.name AS city, placed.place, zones.name AS zone, placed.rides, placed.fares_cents
FROM placed
JOIN cities ON cities.city_id = placed.city_id
JOIN zones ON zones.zone_id = placed.zone_id
WHERE placed.place <= 3
ORDER BY placed.city_id, placed.place
