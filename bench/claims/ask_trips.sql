SELECT hour(pickup) AS hour, count(*) AS trips, avg(fare_cents) / 100 AS average_price
FROM trips GROUP BY hour ORDER BY hour
