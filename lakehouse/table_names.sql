-- Every table of a user, as SQL writes its name: to find what a misspelt name means.
SELECT quote_ident(nspname) || '.' || quote_ident(relname)
FROM pg_class
JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
ORDER BY 1
LIMIT 10000
