-- The columns of tables, as the catalog has them; a domain is looked through to the type it stands on.
SELECT
    a.attrelid::bigint,
    a.attname AS name,
    format_type(a.atttypid, a.atttypmod) AS declared,
    t.typname AS type,
    t.typtype = 'e' AS is_enum,
    CASE WHEN t.typname = 'numeric' AND modifier >= 4 THEN modifier - 4 END AS precision_scale,
    a.attnotnull AS not_null,
    coalesce(a.attnum = ANY (k.indkey), false) AS in_key,
    a.attrelid::regclass::text AS in_table,
    -- Which column this is, and in which statement it was last altered: the same name and type may have come
    -- back with other values, or been given others.
    concat(a.attnum, ' ', a.xmin) AS altered,
    (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid) AS labels
FROM pg_attribute AS a
JOIN pg_type AS declared_type ON declared_type.oid = a.atttypid
JOIN pg_type AS t ON t.oid = CASE WHEN declared_type.typtype = 'd' THEN declared_type.typbasetype ELSE a.atttypid END
CROSS JOIN LATERAL (
    SELECT CASE WHEN declared_type.typtype = 'd' THEN declared_type.typtypmod ELSE a.atttypmod END AS modifier
) AS m
LEFT JOIN pg_index AS k ON k.indrelid = a.attrelid AND k.indisprimary
WHERE a.attrelid = ANY (%(relations)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
