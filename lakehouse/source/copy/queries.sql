-- name: pages
-- The number of pages of a table's heap. A partitioned table, a view or a foreign table has none.
SELECT pg_relation_size(c.oid) / current_setting('block_size')::bigint AS pages
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND c.relkind IN ('r', 'm')

-- name: bytes
-- The size of a table with its long values.
SELECT pg_table_size(c.oid) AS bytes
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND c.relkind IN ('r', 'm')

-- name: row_not_held
-- The key of a row whose value the lake cannot store, and the start of the value as text. Not a cast to text: a user may
-- have created one.
SELECT ARRAY[{key}]::text[], left(format('%s', {column}), 100) FROM {table} WHERE ({is_held}) IS FALSE
LIMIT 1

-- name: probe
-- How many ms later than asked for the server's process wakes up, the next transaction ID, and the number of other sessions that
-- execute a statement. A role that may not see other sessions counts its own only.
SELECT 1000 * (extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 - %(seconds)s::float8) AS delay_ms,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS transactions,
       (SELECT count(*) FROM pg_stat_activity
        WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
          AND pid <> ALL (%(own)s::int[])) AS sessions
FROM pg_sleep(%(seconds)s)
