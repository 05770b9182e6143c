-- name: apply_change
-- Adds the new transfers to the balances. Locks accounts by id, as all other functions do. The platform's accounts have
-- no balance.
WITH locked AS (
    SELECT account_id FROM accounts JOIN change USING (account_id)
    WHERE balance_cents IS NOT NULL ORDER BY account_id FOR NO KEY UPDATE OF accounts)
UPDATE accounts SET balance_cents = balance_cents + change_cents
FROM locked JOIN change USING (account_id)
WHERE accounts.account_id = locked.account_id AND change_cents <> 0

-- name: idle_drivers
-- Drivers of the city without a ride between begin and end; locked, so that they are not deleted before the commit.
SELECT driver_id, account_id FROM drivers
WHERE city_id = %(city_id)s
  AND NOT EXISTS (
      SELECT FROM rides
      WHERE rides.driver_id = drivers.driver_id AND rides.assigned_at < %(end)s
        AND (rides.ended_at IS NULL OR rides.ended_at > %(begin)s))
ORDER BY driver_id LIMIT %(needed)s
FOR KEY SHARE OF drivers

-- name: idle_riders
-- Riders of the city without a ride between begin and end; locked, so that they are not deleted before the commit.
SELECT rider_id, account_id FROM riders
WHERE city_id = %(city_id)s
  AND NOT EXISTS (
      SELECT FROM rides
      WHERE rides.rider_id = riders.rider_id AND rides.assigned_at < %(end)s
        AND (rides.ended_at IS NULL OR rides.ended_at > %(begin)s))
ORDER BY rider_id LIMIT %(needed)s
FOR KEY SHARE OF riders

-- name: known_requests
-- The candidates that already have a ride.
SELECT request_id FROM candidates JOIN rides USING (request_id)

-- name: reserve
-- Reserves a block of numbers of an identity column.
SELECT array_agg(nextval(pg_get_serial_sequence(%s, %s))) FROM generate_series(1, %s)

-- name: zones_of_city
-- The zones of a city; locked, so that they are not deleted before the commit.
SELECT zone_id FROM zones WHERE city_id = %s FOR KEY SHARE
