-- What does a usual ride cost in each city, and a dear one: the median and the 90th percentile of the fares?
-- A percentile p is the fare at place ceil(p * n), as PERCENTILE_DISC has it. By row number, because the
-- engines' own percentile functions differ; in whole numbers, because 0.9 * n in doubles can miss a place.
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
