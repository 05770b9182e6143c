-- The attributes of a tuple, including dropped columns, whose values are still in old rows.
SELECT
    a.attname AS name,
    CASE WHEN n.nspname = 'pg_catalog' THEN t.typname ELSE '' END AS type,
    a.attlen AS length,
    a.attalign AS alignment,
    (SELECT jsonb_object_agg(e.oid::bigint, e.enumlabel) FROM pg_enum AS e WHERE e.enumtypid = a.atttypid) AS labels,
    a.attisdropped AS dropped
FROM pg_attribute AS a
LEFT JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_namespace AS n ON n.oid = t.typnamespace
WHERE a.attrelid = 'ridelake.rides'::regclass AND a.attnum > 0
ORDER BY a.attnum
