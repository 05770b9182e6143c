-- How many rides of each city reach each step: requested, assigned, started, completed, paid?
-- Rides count as requested even if they were loaded from files, which have no requests. Refused requests have
-- no ride.
WITH requested_rides AS (
    SELECT
        rides.pickup_zone_id,
        1 AS assigned,
        CASE WHEN rides.started_at IS NULL THEN 0 ELSE 1 END AS started,
        CASE WHEN rides.status = 'completed' THEN 1 ELSE 0 END AS completed,
        CASE WHEN rides.status = 'completed' AND payments.status = 'captured' THEN 1 ELSE 0 END AS paid
    FROM rides
    LEFT JOIN payments ON payments.ride_id = rides.ride_id
    UNION ALL
    SELECT pickup_zone_id, 0 AS assigned, 0 AS started, 0 AS completed, 0 AS paid
    FROM requests
    WHERE outcome <> 'assigned'
)
SELECT
    cities.name AS city,
    COUNT(*) AS requested,
    CAST(SUM(requested_rides.assigned) AS BIGINT) AS assigned,
    CAST(SUM(requested_rides.started) AS BIGINT) AS started,
    CAST(SUM(requested_rides.completed) AS BIGINT) AS completed,
    CAST(SUM(requested_rides.paid) AS BIGINT) AS paid
FROM requested_rides
JOIN zones ON zones.zone_id = requested_rides.pickup_zone_id
JOIN cities ON cities.city_id = zones.city_id
GROUP BY cities.city_id, cities.name
ORDER BY cities.city_id
