-- Who are the best drivers, by alpha · quality + beta · engagement?
-- $alpha = 0.5: weight of quality: the share of a driver's ended rides that the driver did not cancel
-- $beta = 0.5: weight of engagement: a driver's completed rides, relative to the busiest driver of the city
WITH per_driver AS (
    SELECT
        city_id,
        driver_id,
        COUNT(*) AS ended,
        COUNT(*) FILTER (WHERE cancel_reason = 'driver') AS cancelled_by_driver,
        COUNT(*) FILTER (WHERE status = 'completed') AS completed
    FROM rides
    WHERE status IN ('completed', 'cancelled')
    GROUP BY city_id, driver_id
),
rated AS (
    SELECT
        city_id,
        driver_id,
        completed,
        CAST(ended - cancelled_by_driver AS DOUBLE PRECISION) / ended AS quality,
        CASE WHEN completed = 0 THEN 0.0
             ELSE CAST(completed AS DOUBLE PRECISION) / MAX(completed) OVER (PARTITION BY city_id)
        END AS engagement
    FROM per_driver
)
SELECT
    rated.driver_id,
    drivers.name AS driver,
    cities.name AS city,
    rated.completed,
    rated.quality,
    rated.engagement,
    CAST($alpha AS DOUBLE PRECISION) * rated.quality + CAST($beta AS DOUBLE PRECISION) * rated.engagement AS score
FROM rated
JOIN drivers ON drivers.driver_id = rated.driver_id
JOIN cities ON cities.city_id = rated.city_id
ORDER BY score DESC, rated.driver_id
LIMIT 20
