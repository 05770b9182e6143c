-- As a newcomer writes it: look, decide in the program, write. Right when nobody else is there.
-- What "check" finds, "charge" and "assign" use by its name; between check and the rest lies the think time.

-- check
SELECT balance_cents FROM riders WHERE rider_id = %(rider_id)s;
-- Any free driver: each rival stands somewhere else, so each has another one who is nearest.
SELECT driver_id FROM drivers AS d
WHERE NOT EXISTS (SELECT FROM rides AS r WHERE r.driver_id = d.driver_id AND r.active)
ORDER BY random() LIMIT 1;

-- charge
UPDATE riders SET balance_cents = %(balance_cents)s - %(fare_cents)s WHERE rider_id = %(rider_id)s;
INSERT INTO charges (request_id, rider_id, cents) VALUES (%(request_id)s, %(rider_id)s, %(fare_cents)s);

-- assign
INSERT INTO rides (request_id, round, rider_id, driver_id)
VALUES (%(request_id)s, %(round)s, %(rider_id)s, %(driver_id)s);
