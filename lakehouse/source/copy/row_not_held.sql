-- The key of a row whose value the lake cannot store: NaN or infinity, otherwise the greatest value.
SELECT {key} FROM {table} WHERE {column} IS NOT NULL
ORDER BY {column}::text IN ('NaN', 'Infinity', '-Infinity', 'infinity', '-infinity') DESC, {column} DESC
LIMIT 1
