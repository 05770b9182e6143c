-- As for_update.sql, but a driver that another transaction has locked is skipped instead of waited for.
-- The rider's row is one specific row, so the transaction waits for it.

-- check
SELECT balance_cents FROM riders WHERE rider_id = %(rider_id)s FOR UPDATE;
SELECT driver_id FROM drivers WHERE NOT busy
ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED;

-- charge
UPDATE riders SET balance_cents = %(balance_cents)s - %(fare_cents)s WHERE rider_id = %(rider_id)s;
INSERT INTO charges (request_id, rider_id, cents) VALUES (%(request_id)s, %(rider_id)s, %(fare_cents)s);

-- assign
UPDATE drivers SET busy = true WHERE driver_id = %(driver_id)s;
INSERT INTO rides (request_id, round, rider_id, driver_id)
VALUES (%(request_id)s, %(round)s, %(rider_id)s, %(driver_id)s);
