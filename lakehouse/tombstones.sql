-- Of which tables rows are gone since the token, and whether one was truncated.
SELECT relation::bigint, bool_or(key IS NULL)
FROM ridelake_tracking.tombstones
WHERE tx >= current_setting('ridelake.since_xmax')::bigint
   OR tx = ANY (current_setting('ridelake.since_xip')::bigint[])
GROUP BY relation
