-- Key and hash of each row in the buckets that differ.
SELECT key, hash
FROM (
    SELECT {key} AS key, ('x' || md5({record}))::bit(60)::bigint AS hash FROM {table} OFFSET 0
) AS hashed
WHERE hash & %(mask)s::bigint = ANY (%(buckets)s::bigint[])
