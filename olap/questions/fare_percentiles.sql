-- What are the median and the 90th percentile of the fares in each city?
-- Percentile p is the fare at position ceil(p * n), as in PERCENTILE_DISC. It is computed by row number because
-- the percentile functions of the engines differ, and in integers because 0.9 * n is not exact in doubles.
WITH ranked AS (
    SELECT
        city_id,
        fare_cents,
        ROW_NUMBER() OVER (PARTITION BY city_id ORDER BY fare_cents) AS place,
        COUNT(*) OVER (PARTITION BY city_id) AS n
    FROM rides
    WHERE status = 'completed'
)
SELECT
    cities.name AS city,
    COUNT(*) AS rides,
    MIN(ranked.fare_cents) FILTER (WHERE ranked.place * 10 >= ranked.n * 5) AS median_fare_cents,
    MIN(ranked.fare_cents) FILTER (WHERE ranked.place * 10 >= ranked.n * 9) AS p90_fare_cents
FROM ranked
JOIN cities ON cities.city_id = ranked.city_id
GROUP BY cities.city_id, cities.name
ORDER BY cities.city_id
