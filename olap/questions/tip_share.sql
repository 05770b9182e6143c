-- How many riders tip in each city, and how much do tips add to the fares?
SELECT
    cities.name AS city,
    COUNT(*) AS paid_rides,
    COUNT(*) FILTER (WHERE payments.tip_cents > 0) AS tipped_rides,
    CAST(SUM(payments.tip_cents) AS BIGINT) AS tips_cents,
    CAST(SUM(payments.tip_cents) AS DOUBLE PRECISION) / CAST(SUM(payments.captured_cents) AS DOUBLE PRECISION)
        AS tips_of_fares
FROM payments
JOIN rides ON rides.ride_id = payments.ride_id
JOIN cities ON cities.city_id = rides.city_id
WHERE payments.status = 'captured'
GROUP BY cities.city_id, cities.name
ORDER BY cities.city_id
