-- The oid, schema and name of a table as the user writes it: quoted where SQL wants it quoted.
SELECT pg_class.oid::bigint, pg_namespace.nspname::text, pg_class.relname::text
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
WHERE pg_class.oid = to_regclass(%(name)s)
