-- The tables with rows deleted since the token, and whether the table was truncated.
SELECT tracked.relation::bigint, bool_or(tombstones.key IS NULL)
FROM ridelake_tracking.tombstones JOIN ridelake_tracking.tracked USING (generation)
WHERE tombstones.tx >= current_setting('ridelake.since_xmax')::bigint
   OR tombstones.tx = ANY (current_setting('ridelake.since_xip')::bigint[])
GROUP BY tracked.relation
