-- What the snapshot before could not see and this transaction's own snapshot can: written by one that had not
-- begun then, or that was open. The second half of the condition is what Postgres does anyway.
SELECT id, payload FROM loss_rows
WHERE tx >= pg_snapshot_xmax(%(since)s::pg_snapshot)::text::bigint
   OR tx = ANY (ARRAY(SELECT xip::text::bigint FROM pg_snapshot_xip(%(since)s::pg_snapshot) AS xip));
