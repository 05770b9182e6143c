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
