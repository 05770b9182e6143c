-- Number of rows and sum of their hashes, by bucket. OFFSET 0 prevents the planner from computing `hash` twice per row.
SELECT hash & %(mask)s::bigint AS bucket, count(*) AS rows, sum(hash) AS sum
FROM (SELECT ('x' || md5({record}))::bit(60)::bigint AS hash FROM {table} OFFSET 0) AS hashed
GROUP BY bucket
