-- When do people ride: how many requests fall on each weekday (1 = Monday) and hour of the city's own clock?
SELECT
    CAST(EXTRACT(ISODOW FROM requested_local) AS INTEGER) AS weekday,
    CAST(EXTRACT(HOUR FROM requested_local) AS INTEGER) AS hour,
    COUNT(*) AS requests,
    COUNT(*) FILTER (WHERE status = 'completed') AS completed
FROM rides
GROUP BY 1, 2
ORDER BY 1, 2
