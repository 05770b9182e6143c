-- A look-up: what is the account balance of a driver?
-- $driver_id = 1: the driver's id
SELECT drivers.driver_id, drivers.name AS driver, drivers.status, accounts.balance_cents
FROM drivers
JOIN accounts ON accounts.account_id = drivers.account_id
WHERE drivers.driver_id = $driver_id
ORDER BY drivers.driver_id
