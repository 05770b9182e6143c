-- The naive version: read, decide in the program, write. Correct only without concurrency.
-- "charge" and "assign" use the columns that "check" returns, by name. The think time is after "check".

-- check
SELECT balance_cents FROM riders WHERE rider_id = %(rider_id)s;
-- Any available driver: clients are in different places, so each has another nearest driver.
SELECT driver_id FROM drivers AS d
WHERE NOT EXISTS (SELECT FROM rides AS r WHERE r.driver_id = d.driver_id AND r.active)
ORDER BY random() LIMIT 1;

-- charge
UPDATE riders SET balance_cents = %(balance_cents)s - %(fare_cents)s WHERE rider_id = %(rider_id)s;
INSERT INTO charges (request_id, rider_id, cents) VALUES (%(request_id)s, %(rider_id)s, %(fare_cents)s);

-- assign
INSERT INTO rides (request_id, round, rider_id, driver_id)
VALUES (%(request_id)s, %(round)s, %(rider_id)s, %(driver_id)s);
