-- What did riders pay in each city, month by month, and what of it did the company keep?
SELECT
    CAST(EXTRACT(YEAR FROM rides.requested_local) AS INTEGER) AS year,
    CAST(EXTRACT(MONTH FROM rides.requested_local) AS INTEGER) AS month,
    cities.name AS city,
    COUNT(*) AS rides,
    CAST(SUM(rides.fare_cents) AS BIGINT) AS fares_cents,
    CAST(COALESCE(SUM(ledger.amount_cents), 0) AS BIGINT) AS commission_cents
FROM rides
JOIN cities ON cities.city_id = rides.city_id
LEFT JOIN ledger ON ledger.ride_id = rides.ride_id AND ledger.kind = 'commission'
WHERE rides.status = 'completed'
GROUP BY 1, 2, cities.city_id, cities.name
ORDER BY 1, 2, cities.city_id
