-- name: driver_updates
-- The number of updates of drivers, and of those without an index update (HOT).
SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'drivers'::regclass

-- name: exported_rides
-- Ten copies of the rides, so that the start and the end of an export do not dominate.
CREATE TABLE exported_rides AS
SELECT
    ride_id, rider_id, driver_id, fare_cents, requested_at, requested_local, assigned_at, started_at, ended_at,
    gen_random_uuid() AS request_id, city_id, pickup_zone_id, dropoff_zone_id, distance_metres, status, cancel_reason
FROM rides CROSS JOIN generate_series(1, %(copies)s);

-- name: keyed_table
-- A table whose key is made from the numbers 1 to {rows}, in random order unless it is the number.
CREATE TABLE {table} AS
SELECT {key} AS id, 'name ' || n AS name, (mod(n * 7, 10007))::numeric(12, 2) AS amount FROM generate_series(1, {rows}) AS n;
ALTER TABLE {table} ADD PRIMARY KEY (id);

-- name: update_random_rows
-- About %(updates)s rows of a keyed table.
UPDATE {table} SET amount = amount + 1
WHERE id IN (SELECT {key} FROM (SELECT (1 + random() * (%(rows)s - 1))::bigint AS n
                                FROM generate_series(1, %(updates)s)) AS numbers)

-- name: more_drivers
-- Add %(drivers)s drivers in zones with requests, so that no benchmark runs out of drivers.
WITH stands AS (SELECT city_id, pickup_zone_id AS zone_id, row_number() OVER () AS number
                FROM (SELECT city_id, pickup_zone_id FROM rides ORDER BY hashint8(ride_id) LIMIT %(drivers)s) AS asked),
opened AS (INSERT INTO accounts (kind, balance_cents) SELECT 'driver', 0 FROM stands RETURNING account_id),
owned AS (SELECT account_id, row_number() OVER () AS number FROM opened)
INSERT INTO drivers (account_id, city_id, zone_id, status, name)
SELECT account_id, city_id, zone_id, 'available', 'Driver ' || account_id FROM stands JOIN owned USING (number)

-- name: ride_bytes
-- Bytes and number of the rides in Postgres.
SELECT pg_relation_size('rides'), pg_indexes_size('rides'), (SELECT count(*) FROM rides)

-- name: rides_by_city
-- The cities with most rides.
SELECT name, count(*) FROM rides JOIN cities USING (city_id) GROUP BY name ORDER BY count(*) DESC, name LIMIT 12

-- name: store_bytes
-- The bytes of the store's tables: heaps, indexes and everything else.
SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_stat_user_tables WHERE schemaname = 'ridelake'

-- name: written_table
CREATE TABLE {table} (id bigint PRIMARY KEY, customer text, total numeric(10, 2), placed timestamptz);
INSERT INTO {table}
SELECT n, 'customer ' || n, n % 1000, timestamptz '2026-01-01 00:00Z' + n * interval '1 s'
FROM generate_series(1, {rows}) AS n

-- name: writer_insert
INSERT INTO {table}
SELECT n, 'customer ' || n, mod(n, 1000), timestamptz '2026-01-01 00:00Z'
FROM generate_series(%(first)s::bigint, %(first)s::bigint + %(rows)s - 1) AS n

-- name: writer_update
-- Rows that are spread over the second half of the table; %(first)s chooses which.
UPDATE {table} SET total = total + 1
WHERE id IN (SELECT %(of)s::bigint / 2 + 1 + mod(%(first)s::bigint + n * (%(of)s::bigint / 2 / %(rows)s), %(of)s::bigint / 2)
             FROM generate_series(1, %(rows)s) AS n)

-- name: writer_delete
DELETE FROM {table} WHERE id BETWEEN %(first)s AND %(first)s::bigint + %(rows)s - 1
