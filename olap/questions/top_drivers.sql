-- Which ten drivers earn the most, by fares and tips in the ledger?
SELECT
    drivers.driver_id,
    drivers.name AS driver,
    cities.name AS city,
    COUNT(*) FILTER (WHERE ledger.kind = 'pay') AS paid_rides,
    CAST(SUM(ledger.amount_cents) AS BIGINT) AS earned_cents,
    CAST(COALESCE(SUM(ledger.amount_cents) FILTER (WHERE ledger.kind = 'tip'), 0) AS BIGINT) AS tips_cents
FROM ledger
JOIN drivers ON drivers.account_id = ledger.to_account_id
JOIN cities ON cities.city_id = drivers.city_id
WHERE ledger.kind IN ('pay', 'tip')
GROUP BY drivers.driver_id, drivers.name, cities.name
ORDER BY earned_cents DESC, drivers.driver_id
LIMIT 10
