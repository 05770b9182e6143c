-- The tables whose tracking is outdated: it was restored from a dump, the key has changed, or an older version created
-- it. Tables that lack a trigger, or whose triggers are disabled, are not included: that was done on purpose.
SELECT c.oid::bigint, quote_ident(nspname) || '.' || quote_ident(relname)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE c.oid = ANY (%(relations)s::oid[])
  AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname ~ '^(zzz_)?ridelake_')
  AND NOT ridelake_tracking.is_current(c.oid)
