-- A look-up: the account balance of a rider, and how much of it is not held.
-- $username = memelord: the rider's user name
SELECT
    riders.rider_id,
    riders.username,
    cities.name AS city,
    accounts.balance_cents,
    accounts.held_cents,
    accounts.balance_cents - accounts.held_cents AS free_cents
FROM riders
JOIN accounts ON accounts.account_id = riders.account_id
JOIN cities ON cities.city_id = riders.city_id
WHERE riders.username = $username
ORDER BY riders.rider_id
