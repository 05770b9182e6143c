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
    -- Identifies the column and the transaction that last altered it: a column that was dropped and added again,
    -- or whose type was changed twice, has the same name and type but may have other values.
    concat(a.attnum, ' ', a.xmin) AS altered,
    (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid) AS labels,
    format('%%I.%%I', n.nspname, t.typname) AS base_type,
    output.function AS output,
    output.argument,
    CASE WHEN t.oid = 'pg_catalog.money'::regtype THEN scale(0::money::numeric) END AS money_scale,
    t.oid::bigint AS type_oid,
    r.modifier
FROM resolved AS r
JOIN pg_attribute AS a USING (attrelid, attnum)
JOIN pg_type AS t ON t.oid = r.type AND t.typtype <> 'd'
JOIN pg_namespace AS n ON n.oid = t.typnamespace
-- The output function of the type. A type can have the function of another one, to which a value must be cast.
CROSS JOIN LATERAL (
    SELECT
        format('%%I.%%I', m.nspname, proname) AS function,
        format('%%I.%%I', n.nspname, t.typname) || CASE WHEN p.oid <> t.oid AND p.typtype <> 'p'
            THEN format('::%%I.%%I', p.typnamespace::regnamespace, p.typname) ELSE '' END AS argument
    FROM pg_proc
    JOIN pg_namespace AS m ON m.oid = pronamespace
    JOIN pg_type AS p ON p.oid = proargtypes[0]
    WHERE pg_proc.oid = t.typoutput
) AS output
LEFT JOIN pg_index AS k ON k.indrelid = a.attrelid AND k.indisprimary
ORDER BY a.attrelid, a.attnum

-- name: type_definitions
-- What the text of these types depends on, other than the value. `definition` changes with the definition of a type
-- that the type is made of: of an element, attribute or bound. `is_recorded`: whether a tombstone can have a value. The
-- text of money depends on lc_monetary of the session that deletes the row, and the text of a name on its search path.
WITH RECURSIVE parts AS (
    SELECT oid AS whole, oid AS part FROM unnest(%(types)s::oid[]) AS oid
    UNION
    SELECT whole, next
    FROM parts JOIN pg_type AS t ON t.oid = part
    CROSS JOIN LATERAL (
        SELECT typelem UNION ALL SELECT typbasetype
        UNION ALL SELECT atttypid FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped
        UNION ALL SELECT rngsubtype FROM pg_range WHERE t.oid IN (rngtypid, rngmultitypid)
    ) AS n (next)
    WHERE next <> 0
)
SELECT
    whole::bigint,
    string_agg(concat_ws(' ',
        (SELECT string_agg(quote_literal(enumlabel), ' ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = part),
        (SELECT string_agg(concat(attnum, ' ', atttypid, ' ', attisdropped), ' ' ORDER BY attnum)
         FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0),
        CASE WHEN t.oid = 'pg_catalog.money'::regtype THEN current_setting('lc_monetary') END
    ), ' ' ORDER BY part) AS definition,
    bool_and(t.oid <> 'pg_catalog.money'::regtype
             AND (typnamespace <> 'pg_catalog'::regnamespace OR typname !~ '^(reg|aclitem)')) AS is_recorded
FROM parts JOIN pg_type AS t ON t.oid = part
GROUP BY whole

-- name: type_parts
-- What these types are made of, and what their parts are made of: the base type of a domain, the element of an array,
-- the attributes of a composite. The name has no schema if the type is built in.
WITH RECURSIVE parts AS (
    SELECT oid FROM unnest(%(types)s::oid[]) AS oid
    UNION
    SELECT next
    FROM parts JOIN pg_type AS t USING (oid)
    CROSS JOIN LATERAL (
        SELECT typelem UNION ALL SELECT typbasetype
        UNION ALL SELECT atttypid FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped
    ) AS n (next)
    WHERE next <> 0
)
SELECT
    oid::bigint,
    CASE WHEN nspname = 'pg_catalog' THEN typname ELSE format('%%I.%%I', nspname, typname) END,
    typtype = 'e',
    CASE WHEN typtype = 'd' THEN typbasetype::bigint END,
    typtypmod,
    -- Not of int2vector, point and others, which have an element type too.
    (SELECT e.oid::bigint FROM pg_type AS e WHERE e.typarray = t.oid),
    ARRAY(SELECT json_build_array(attname, atttypid::bigint, atttypmod)
          FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped ORDER BY attnum)
FROM parts
JOIN pg_type AS t USING (oid)
JOIN (SELECT oid AS namespace, nspname FROM pg_namespace) AS n ON namespace = typnamespace
