-- The check locks the rows until the commit; other clients wait at their check.
-- The driver's state must be in the locked row. After a wait Postgres reads only that row again: the absence of
-- an active ride in another table would be taken from the snapshot before the wait.

-- check
SELECT balance_cents FROM riders WHERE rider_id = %(rider_id)s FOR UPDATE;
-- All clients lock in the same order. Otherwise two could deadlock.
SELECT driver_id FROM drivers WHERE NOT busy
ORDER BY driver_id LIMIT 1 FOR UPDATE;

-- charge
UPDATE riders SET balance_cents = %(balance_cents)s - %(fare_cents)s WHERE rider_id = %(rider_id)s;
INSERT INTO charges (request_id, rider_id, cents) VALUES (%(request_id)s, %(rider_id)s, %(fare_cents)s);

-- assign
UPDATE drivers SET busy = true WHERE driver_id = %(driver_id)s;
INSERT INTO rides (request_id, round, rider_id, driver_id)
VALUES (%(request_id)s, %(round)s, %(rider_id)s, %(driver_id)s);
