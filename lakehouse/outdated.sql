-- Of these tables, those whose tracking was written elsewhere or before: a dump brought it here, the key is another,
-- or an older version made it. A table that only lacks a trigger, or whose triggers are disabled, is not among them:
-- that was done on purpose.
SELECT c.oid::bigint, quote_ident(nspname) || '.' || quote_ident(relname)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE c.oid = ANY (%(relations)s::oid[])
  AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname ~ '^(zzz_)?ridelake_')
  AND NOT ridelake_tracking.is_current(c.oid)
