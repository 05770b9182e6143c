-- The user tables as SQL identifiers, to suggest a name for a misspelled one.
SELECT quote_ident(nspname) || '.' || quote_ident(relname)
FROM pg_class
JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
ORDER BY 1
LIMIT 10000
