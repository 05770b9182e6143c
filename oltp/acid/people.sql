-- Creates the riders and drivers of the small tables.
WITH arrived AS (INSERT INTO drivers (driver_id) SELECT generate_series(1, %(drivers)s))
INSERT INTO riders (rider_id, start_cents, balance_cents)
SELECT rider_id, %(start_cents)s, %(start_cents)s FROM generate_series(1, %(riders)s) AS rider_id;
