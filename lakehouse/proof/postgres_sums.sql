-- Rows and the sum of their numbers, by bucket. OFFSET 0 keeps the planner from computing `hash` twice a row.
SELECT hash & %(mask)s::bigint AS bucket, count(*) AS rows, sum(hash) AS sum
FROM (SELECT ('x' || md5({record}))::bit(60)::bigint AS hash FROM {table} OFFSET 0) AS hashed
GROUP BY bucket
