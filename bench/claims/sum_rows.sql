SELECT city, count(*), sum(fare_cents)
FROM rides JOIN zones ON zone_id = pickup_zone_id GROUP BY city ORDER BY city
