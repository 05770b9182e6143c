-- Which zones are busier than usual: rides in this hour so far, against the same minutes of the last four weeks?
-- "This hour" is the hour of the city's newest ride, in local time. The rank uses integers: four times the rides of
-- this hour, minus those of the four earlier weeks.
WITH newest AS (
    SELECT city_id, MAX(requested_local) AS at
    FROM rides
    GROUP BY city_id
),
counted AS (
    SELECT
        rides.pickup_zone_id AS zone_id,
        COUNT(*) FILTER (WHERE CAST(rides.requested_local AS DATE) = CAST(newest.at AS DATE)) AS this_hour,
        COUNT(*) FILTER (WHERE CAST(rides.requested_local AS DATE) < CAST(newest.at AS DATE)) AS four_before
    FROM rides
    JOIN newest ON newest.city_id = rides.city_id
    WHERE rides.requested_local > newest.at - INTERVAL '29' DAY
        AND EXTRACT(ISODOW FROM rides.requested_local) = EXTRACT(ISODOW FROM newest.at)
        AND EXTRACT(HOUR FROM rides.requested_local) = EXTRACT(HOUR FROM newest.at)
        AND EXTRACT(MINUTE FROM rides.requested_local) <= EXTRACT(MINUTE FROM newest.at)
    GROUP BY rides.pickup_zone_id
)
SELECT
    zones.zone_id,
    zones.name AS zone,
    cities.name AS city,
    counted.this_hour,
    CAST(counted.four_before AS DOUBLE PRECISION) / 4 AS usual
FROM counted
JOIN zones ON zones.zone_id = counted.zone_id
JOIN cities ON cities.city_id = zones.city_id
WHERE counted.this_hour > 0
ORDER BY counted.this_hour * 4 - counted.four_before DESC, zones.zone_id
LIMIT 10
