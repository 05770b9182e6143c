-- Tables by SQL identifier: quoted if necessary, schema-qualified or found on the search path.
SELECT
    wanted.name,
    c.oid::bigint,
    n.nspname::text,
    c.relname::text,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS qualified,
    c.relkind IN ('r', 'p') AS is_table,
    (SELECT array_agg(a.attname::text ORDER BY k.place)
     FROM pg_index CROSS JOIN unnest(indkey) WITH ORDINALITY AS k (attnum, place)
     JOIN pg_attribute AS a ON a.attrelid = indrelid AND a.attnum = k.attnum
     WHERE indrelid = c.oid AND indisprimary) AS key
FROM unnest(%(tables)s::text[]) WITH ORDINALITY AS wanted (name, place)
LEFT JOIN pg_class AS c ON c.oid = to_regclass(wanted.name)
LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
ORDER BY wanted.place
