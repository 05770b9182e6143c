-- How much revenue comes from repeat riders: riders and fares by number of rides?
WITH per_rider AS (
    SELECT rider_id, COUNT(*) AS taken, SUM(fare_cents) AS fares_cents
    FROM rides
    WHERE status = 'completed'
    GROUP BY rider_id
),
sorted AS (
    SELECT
        CASE WHEN taken = 1 THEN 'one' WHEN taken < 5 THEN 'two to four' WHEN taken < 10 THEN 'five to nine'
             ELSE 'ten and more' END AS rides_taken,
        taken,
        fares_cents
    FROM per_rider
)
SELECT
    sorted.rides_taken,
    COUNT(*) AS riders,
    CAST(SUM(sorted.taken) AS BIGINT) AS rides,
    CAST(SUM(sorted.fares_cents) AS BIGINT) AS fares_cents,
    CAST(SUM(sorted.fares_cents) AS DOUBLE PRECISION) / CAST((SELECT SUM(fares_cents) FROM per_rider) AS DOUBLE PRECISION)
        AS share_of_fares
FROM sorted
GROUP BY sorted.rides_taken
ORDER BY MIN(sorted.taken)
