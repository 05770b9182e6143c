-- name: read_csv
SELECT * FROM read_csv($path)

-- name: relation
-- The table with this name, quoted as in SQL: oid, schema, name, whether it is partitioned, its generated columns, and
-- its columns with a nondeterministic collation.
SELECT
    c.oid::bigint,
    n.nspname::text,
    c.relname::text,
    c.relkind = 'p',
    coalesce(array_agg(a.attname::text) FILTER (WHERE a.attgenerated <> ''), '{}'),
    coalesce(array_agg(a.attname::text) FILTER (WHERE NOT collisdeterministic), '{}')
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_collation ON pg_collation.oid = a.attcollation
WHERE c.oid = to_regclass(%(name)s)
GROUP BY c.oid, n.oid

-- name: sizes
-- Bytes of a table and of its indexes, including partitions and child tables.
WITH RECURSIVE tree AS (
    SELECT %(oid)s::oid AS relation
    UNION
    SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = relation
)
SELECT
    coalesce(sum(pg_table_size(relation)), 0)::bigint,
    coalesce(sum(pg_indexes_size(relation)), 0)::bigint
FROM tree
