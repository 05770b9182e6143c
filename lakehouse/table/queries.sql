-- name: columns
-- The columns of tables, from the catalog. Domains are resolved to their base type.
WITH RECURSIVE resolved AS (
    SELECT attrelid, attnum, atttypid AS type, atttypmod AS modifier
    FROM pg_attribute
    WHERE attrelid = ANY (%(relations)s::oid[]) AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attrelid, attnum, typbasetype, typtypmod
    FROM resolved JOIN pg_type ON pg_type.oid = resolved.type AND typtype = 'd'
)
SELECT
    a.attrelid::bigint,
    a.attname AS name,
    format_type(a.atttypid, a.atttypmod) AS declared,
    -- The schema is omitted for built-in types only, because a user may create a type named `uuid`.
    CASE WHEN n.nspname = 'pg_catalog' THEN t.typname ELSE format('%%I.%%I', n.nspname, t.typname) END AS type,
    t.typtype = 'e' AS is_enum,
    CASE WHEN t.oid = 'pg_catalog.numeric'::regtype AND r.modifier >= 4 THEN r.modifier - 4 END AS precision_scale,
    a.attnotnull AS not_null,
    coalesce(a.attnum = ANY (k.indkey), false) AS in_key,
    a.attrelid::regclass::text AS in_table,
    -- Identifies the column and the transaction that last altered it: a column that was dropped and added again,
    -- or whose type was changed twice, has the same name and type but may have other values.
    concat(a.attnum, ' ', a.xmin) AS altered,
    (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid) AS labels
FROM resolved AS r
JOIN pg_attribute AS a USING (attrelid, attnum)
JOIN pg_type AS t ON t.oid = r.type AND t.typtype <> 'd'
JOIN pg_namespace AS n ON n.oid = t.typnamespace
LEFT JOIN pg_index AS k ON k.indrelid = a.attrelid AND k.indisprimary
ORDER BY a.attrelid, a.attnum
