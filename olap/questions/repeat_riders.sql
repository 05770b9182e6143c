-- How much of the business is riders who come back: riders and fares by how many rides they have taken?
WITH per_rider AS (
    SELECT rider_id, COUNT(*) AS taken, SUM(fare_cents) AS fares_cents
    FROM rides
    WHERE status = 'completed'
    GROUP BY rider_id
)
SELECT
    CASE WHEN taken = 1 THEN 'one' WHEN taken < 5 THEN 'two to four' WHEN taken < 10 THEN 'five to nine'
         ELSE 'ten and more' END AS rides_taken,
    COUNT(*) AS riders,
    CAST(SUM(taken) AS BIGINT) AS rides,
    CAST(SUM(fares_cents) AS BIGINT) AS fares_cents,
    CAST(SUM(fares_cents) AS DOUBLE PRECISION) / CAST(SUM(SUM(fares_cents)) OVER () AS DOUBLE PRECISION)
        AS share_of_fares
FROM per_rider
GROUP BY 1
ORDER BY MIN(taken)
