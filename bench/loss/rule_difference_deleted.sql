-- Keys of rows deleted between the two snapshots, by the same condition.
SELECT (key ->> 0)::bigint FROM ridelake_tracking.tombstones
WHERE relation = 'loss_rows'::regclass
  AND (tx >= pg_snapshot_xmax(%(since)s::pg_snapshot)::text::bigint
    OR tx = ANY (ARRAY(SELECT xip::text::bigint FROM pg_snapshot_xip(%(since)s::pg_snapshot) AS xip)));
