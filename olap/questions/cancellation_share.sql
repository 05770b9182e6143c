-- What share of rides is cancelled in each city, largest first?
SELECT
    cities.name AS city,
    COUNT(*) AS rides,
    COUNT(*) FILTER (WHERE rides.status = 'cancelled') AS cancelled,
    CAST(COUNT(*) FILTER (WHERE rides.status = 'cancelled') AS DOUBLE PRECISION) / COUNT(*) AS cancelled_share
FROM rides
JOIN cities ON cities.city_id = rides.city_id
GROUP BY cities.city_id, cities.name
ORDER BY cancelled_share DESC, cities.city_id
