-- How many rides are requested by weekday (1 = Monday) and hour, in the local time of the city?
WITH local_times AS (
    SELECT
        CAST(EXTRACT(ISODOW FROM requested_local) AS INTEGER) AS weekday,
        CAST(EXTRACT(HOUR FROM requested_local) AS INTEGER) AS hour,
        status
    FROM rides
)
SELECT
    weekday,
    hour,
    COUNT(*) AS requests,
    COUNT(*) FILTER (WHERE status = 'completed') AS completed
FROM local_times
GROUP BY weekday, hour
ORDER BY weekday, hour
