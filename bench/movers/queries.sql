-- name: activity
-- Sessions of clients: age of the running statement in seconds, and the oldest transaction that the snapshot must see.
SELECT pid, backend_xmin::text,
       CASE WHEN state = 'active' THEN extract(epoch FROM clock_timestamp() - query_start)::float8 END
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid();

-- name: first_rows
-- Rows that exist before the writers begin.
INSERT INTO loss_rows (payload) SELECT 'first/' || n FROM generate_series(1, %(rows)s) AS n;

-- name: values
-- The tables of types, the ordinary ones first, and each of their values as Postgres' text.
SELECT name, type, mover_types.values_of(name) FROM mover_types.tables ORDER BY name DESC;

-- name: as_text
-- The value of a text that was read from a file, as Postgres writes it, or as `truth` writes it if they are equal; NULL
-- if the text is not a value of the type.
SELECT mover_types.as_text(%(text)s, %(type)s, %(truth)s);

-- name: stored_rows
-- The rows of the tables that the movers copy.
SELECT (SELECT count(*) FROM cities) + (SELECT count(*) FROM zones) + (SELECT count(*) FROM accounts)
     + (SELECT count(*) FROM riders) + (SELECT count(*) FROM drivers) + (SELECT count(*) FROM rides)
     + (SELECT count(*) FROM payments) + (SELECT count(*) FROM requests) + (SELECT count(*) FROM ledger);

-- name: has_view
-- Run in DuckDB: whether the copy has the table.
SELECT 1 FROM duckdb_views() WHERE view_name = $name;
