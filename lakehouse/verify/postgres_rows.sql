-- The rows with these keys.
SELECT {key} AS key, {record} AS record FROM {table} WHERE {key} = ANY (%(keys)s::bytea[])
