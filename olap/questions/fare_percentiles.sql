-- What are the median and the 90th percentile of the fares in each city?
-- Percentile p is the fare at position ceil(p * n), as in PERCENTILE_DISC. It is computed by row number because
-- the percentile functions of the engines differ, and in integers because 0.9 * n is not exact in doubles.
WITH placed AS (
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
    MIN(placed.fare_cents) FILTER (WHERE placed.place * 10 >= placed.n * 5) AS median_fare_cents,
    MIN(placed.fare_cents) FILTER (WHERE placed.place * 10 >= placed.n * 9) AS p90_fare_cents
FROM placed
JOIN cities ON cities.city_id = placed.city_id
GROUP BY cities.city_id, cities.name
ORDER BY cities.city_id
