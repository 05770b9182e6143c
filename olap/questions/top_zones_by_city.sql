-- Which three dropoff zones of each city have the highest total fares?
WITH per_zone AS (
    SELECT city_id, dropoff_zone_id AS zone_id, COUNT(*) AS rides, CAST(SUM(fare_cents) AS BIGINT) AS fares_cents
    FROM rides
    WHERE status = 'completed'
    GROUP BY city_id, dropoff_zone_id
),
ranked AS (
    SELECT
        city_id,
        zone_id,
        rides,
        fares_cents,
        ROW_NUMBER() OVER (PARTITION BY city_id ORDER BY fares_cents DESC, zone_id) AS place
    FROM per_zone
)
SELECT cities.name AS city, ranked.place, zones.name AS zone, ranked.rides, ranked.fares_cents
FROM ranked
JOIN cities ON cities.city_id = ranked.city_id
JOIN zones ON zones.zone_id = ranked.zone_id
WHERE ranked.place <= 3
ORDER BY ranked.city_id, ranked.place
