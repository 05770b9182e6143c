-- The name of a type, without schema if it is built in; an enum is text.
SELECT CASE WHEN typtype = 'e' THEN 'text' WHEN nspname = 'pg_catalog' THEN typname
       ELSE format('%%I.%%I', nspname, typname) END
FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
WHERE t.oid = %s
