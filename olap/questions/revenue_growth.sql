-- How fast does each city grow: fares by month, change from the previous month, and running total?
WITH per_month AS (
    SELECT
        city_id,
        CAST(EXTRACT(YEAR FROM requested_local) AS INTEGER) AS year,
        CAST(EXTRACT(MONTH FROM requested_local) AS INTEGER) AS month,
        CAST(SUM(fare_cents) AS BIGINT) AS fares_cents
    FROM rides
    WHERE status = 'completed'
    GROUP BY 1, 2, 3
),
growth AS (
    SELECT
        city_id,
        year,
        month,
        fares_cents,
        fares_cents - LAG(fares_cents) OVER (PARTITION BY city_id ORDER BY year, month) AS change_cents,
        CAST(SUM(fares_cents) OVER (
            PARTITION BY city_id ORDER BY year, month ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS BIGINT) AS so_far_cents
    FROM per_month
)
SELECT
    cities.name AS city,
    growth.year,
    growth.month,
    growth.fares_cents,
    growth.change_cents,
    growth.so_far_cents
FROM growth
JOIN cities ON cities.city_id = growth.city_id
ORDER BY growth.city_id, growth.year, growth.month
