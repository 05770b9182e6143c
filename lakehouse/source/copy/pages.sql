-- The number of pages of a table's heap. A partitioned table, a view or a foreign table has none.
SELECT pg_relation_size(c.oid) / current_setting('block_size')::bigint AS pages
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND c.relkind IN ('r', 'm')
