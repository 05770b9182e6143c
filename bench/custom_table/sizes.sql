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
