-- How much did riders pay in each city and month, and how much of it did the company keep?
WITH paid AS (
    SELECT
        CAST(EXTRACT(YEAR FROM requested_local) AS INTEGER) AS year,
        CAST(EXTRACT(MONTH FROM requested_local) AS INTEGER) AS month,
        ride_id,
        city_id,
        fare_cents
    FROM rides
    WHERE status = 'completed'
)
SELECT
    paid.year,
    paid.month,
    cities.name AS city,
    COUNT(*) AS rides,
    CAST(SUM(paid.fare_cents) AS BIGINT) AS fares_cents,
    CAST(COALESCE(SUM(ledger.amount_cents), 0) AS BIGINT) AS commission_cents
FROM paid
JOIN cities ON cities.city_id = paid.city_id
LEFT JOIN ledger ON ledger.ride_id = paid.ride_id AND ledger.kind = 'commission'
GROUP BY paid.year, paid.month, cities.city_id, cities.name
ORDER BY paid.year, paid.month, cities.city_id
