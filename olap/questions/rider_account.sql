-- A look-up: what has this rider in the account, and what of it is free?
-- $username = memelord: which rider
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
