-- A temporary view for each table with one of these oids whose unqualified name resolves to another relation.
SELECT c.relname, format('CREATE TEMP VIEW %%I AS SELECT * FROM %%I.%%I', c.relname, n.nspname, c.relname)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s::oid[]) AND to_regclass(quote_ident(c.relname)) IS DISTINCT FROM c.oid
