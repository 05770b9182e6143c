-- name: search_path
-- Set the search path to the store's schema and the schemas of the tables with these oids.
SELECT set_config('search_path', concat_ws(', ', 'ridelake', string_agg(quote_ident(nspname), ', '), 'public'), false)
FROM (SELECT DISTINCT nspname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
      WHERE pg_class.oid = ANY (%s::oid[])) AS schemas

-- name: shadowed
-- A temporary view for each table with one of these oids whose unqualified name resolves to another relation.
SELECT c.relname, format('CREATE TEMP VIEW %%I AS SELECT * FROM %%I.%%I', c.relname, n.nspname, c.relname)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s::oid[]) AND to_regclass(quote_ident(c.relname)) IS DISTINCT FROM c.oid

-- name: type_of_oid
-- The name of a type, without schema if it is built in; an enum is text. Then what converts a type without an Arrow
-- type: the argument of its output function, and the function. A type can have the function of another one.
SELECT
    CASE WHEN t.typtype = 'e' THEN 'text' WHEN n.nspname = 'pg_catalog' THEN t.typname
         ELSE format('%%I.%%I', n.nspname, t.typname) END,
    format('%%I.%%I', n.nspname, t.typname) || CASE WHEN p.oid <> t.oid AND p.typtype <> 'p'
        THEN format('::%%I.%%I', p.typnamespace::regnamespace, p.typname) ELSE '' END,
    format('%%I.%%I', m.nspname, proname)
FROM pg_type AS t
JOIN pg_namespace AS n ON n.oid = t.typnamespace
JOIN pg_proc ON pg_proc.oid = t.typoutput
JOIN pg_namespace AS m ON m.oid = pronamespace
JOIN pg_type AS p ON p.oid = proargtypes[0]
WHERE t.oid = %s
