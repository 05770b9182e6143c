-- How much revenue comes from repeat riders: riders and fares by number of rides?
WITH per_rider AS (
    SELECT rider_id, COUNT(*) AS rides, SUM(fare_cents) AS fares_cents
    FROM rides
    WHERE status = 'completed'
    GROUP BY rider_id
),
grouped AS (
    SELECT
        CASE WHEN rides = 1 THEN 'one' WHEN rides < 5 THEN 'two to four' WHEN rides < 10 THEN 'five to nine'
             ELSE 'ten and more' END AS rides_taken,
        rides,
        fares_cents
    FROM per_rider
)
SELECT
    grouped.rides_taken,
    COUNT(*) AS riders,
    CAST(SUM(grouped.rides) AS BIGINT) AS rides,
    CAST(SUM(grouped.fares_cents) AS BIGINT) AS fares_cents,
    CAST(SUM(grouped.fares_cents) AS DOUBLE PRECISION) / CAST((SELECT SUM(fares_cents) FROM per_rider) AS DOUBLE PRECISION)
        AS share_of_fares
FROM grouped
GROUP BY grouped.rides_taken
ORDER BY MIN(grouped.rides)
