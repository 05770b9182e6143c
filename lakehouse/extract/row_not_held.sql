-- The key of a row whose value the lake cannot hold: NaN or infinity, else the greatest.
SELECT {key} FROM {table} WHERE {column} IS NOT NULL
ORDER BY {column}::text IN ('NaN', 'Infinity', '-Infinity', 'infinity', '-infinity') DESC, {column} DESC
LIMIT 1
