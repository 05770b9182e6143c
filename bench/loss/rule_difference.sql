-- Rows that the previous snapshot did not see and the current one does: written by a transaction that had not started or
-- was running at the previous snapshot. Postgres itself applies the current snapshot.
SELECT id, payload FROM loss_rows
WHERE tx >= pg_snapshot_xmax(%(since)s::pg_snapshot)::text::bigint
   OR tx = ANY (ARRAY(SELECT xip::text::bigint FROM pg_snapshot_xip(%(since)s::pg_snapshot) AS xip));
