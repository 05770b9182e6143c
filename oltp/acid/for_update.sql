-- Whoever looks takes hold, and keeps hold until the end: the others wait at the check.
-- The driver's state must stand in the row that is locked. Behind a lock Postgres reads that row again, and
-- only that row: a "no active ride" found in another table would be believed as it was before the wait.

-- check
SELECT balance_cents FROM riders WHERE rider_id = %(rider_id)s FOR UPDATE;
-- One order for all. In an order of their own, two could each hold a driver that the other waits for.
SELECT driver_id FROM drivers WHERE NOT busy
ORDER BY driver_id LIMIT 1 FOR UPDATE;

-- charge
UPDATE riders SET balance_cents = %(balance_cents)s - %(fare_cents)s WHERE rider_id = %(rider_id)s;
INSERT INTO charges (request_id, rider_id, cents) VALUES (%(request_id)s, %(rider_id)s, %(fare_cents)s);

-- assign
UPDATE drivers SET busy = true WHERE driver_id = %(driver_id)s;
INSERT INTO rides (request_id, round, rider_id, driver_id)
VALUES (%(request_id)s, %(round)s, %(rider_id)s, %(driver_id)s);
