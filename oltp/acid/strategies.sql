-- name: check_then_act_check
-- The naive version: read, decide in the program, write. Correct only without concurrency.
-- "charge" and "assign" use the columns that "check" returns, by name. The think time is after "check".
SELECT balance_cents FROM riders WHERE rider_id = %(rider_id)s;
-- Any available driver: clients are in different places, so each has a different nearest driver.
SELECT driver_id FROM drivers AS d
WHERE NOT EXISTS (SELECT FROM rides AS r WHERE r.driver_id = d.driver_id AND r.active)
ORDER BY random() LIMIT 1

-- name: check_then_act_charge
UPDATE riders SET balance_cents = %(balance_cents)s - %(fare_cents)s WHERE rider_id = %(rider_id)s;
INSERT INTO charges (request_id, rider_id, cents) VALUES (%(request_id)s, %(rider_id)s, %(fare_cents)s)

-- name: check_then_act_assign
INSERT INTO rides (request_id, round, rider_id, driver_id)
VALUES (%(request_id)s, %(round)s, %(rider_id)s, %(driver_id)s)

-- name: for_update_check
-- The check locks the rows until the commit; other clients wait at their check.
-- The driver's state must be in the locked row. After a wait Postgres reads only that row again. A condition on another
-- table, such as the absence of an active ride, would be checked with the snapshot before the wait.
SELECT balance_cents FROM riders WHERE rider_id = %(rider_id)s FOR UPDATE;
-- All clients lock in the same order. Otherwise two could deadlock.
SELECT driver_id FROM drivers WHERE NOT busy
ORDER BY driver_id LIMIT 1 FOR UPDATE

-- name: for_update_charge
UPDATE riders SET balance_cents = %(balance_cents)s - %(fare_cents)s WHERE rider_id = %(rider_id)s;
INSERT INTO charges (request_id, rider_id, cents) VALUES (%(request_id)s, %(rider_id)s, %(fare_cents)s)

-- name: for_update_assign
UPDATE drivers SET busy = true WHERE driver_id = %(driver_id)s;
INSERT INTO rides (request_id, round, rider_id, driver_id)
VALUES (%(request_id)s, %(round)s, %(rider_id)s, %(driver_id)s)

-- name: skip_locked_check
-- As for_update, but a driver that another transaction has locked is skipped.
-- The rider's row is one specific row, so the transaction waits for it.
SELECT balance_cents FROM riders WHERE rider_id = %(rider_id)s FOR UPDATE;
SELECT driver_id FROM drivers WHERE NOT busy
ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: skip_locked_charge
UPDATE riders SET balance_cents = %(balance_cents)s - %(fare_cents)s WHERE rider_id = %(rider_id)s;
INSERT INTO charges (request_id, rider_id, cents) VALUES (%(request_id)s, %(rider_id)s, %(fare_cents)s)

-- name: skip_locked_assign
UPDATE drivers SET busy = true WHERE driver_id = %(driver_id)s;
INSERT INTO rides (request_id, round, rider_id, driver_id)
VALUES (%(request_id)s, %(round)s, %(rider_id)s, %(driver_id)s)
