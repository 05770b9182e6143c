-- name: difference
-- Rows that the previous snapshot did not see and the current one does: written by a transaction that had not started or
-- was running at the previous snapshot. Postgres itself applies the current snapshot.
SELECT id, payload FROM loss_rows
WHERE tx >= pg_snapshot_xmax(%(since)s::pg_snapshot)::text::bigint
   OR tx = ANY (ARRAY(SELECT xip::text::bigint FROM pg_snapshot_xip(%(since)s::pg_snapshot) AS xip));

-- name: difference_deleted
-- Keys of rows deleted between the two snapshots, by the same condition.
SELECT (key ->> 0)::bigint FROM ridelake_tracking.tombstones
WHERE relation = 'loss_rows'::regclass
  AND (tx >= pg_snapshot_xmax(%(since)s::pg_snapshot)::text::bigint
    OR tx = ANY (ARRAY(SELECT xip::text::bigint FROM pg_snapshot_xip(%(since)s::pg_snapshot) AS xip)));

-- name: difference_token
-- The snapshot of this transaction, the cursor of the next poll.
SELECT pg_current_snapshot()::text;

-- name: id
-- Rows with a greater id than the last one. Ids are not committed in the order in which they are drawn.
SELECT id, payload, id AS mark FROM loss_rows WHERE id > %(since)s;

-- name: updated_clock
-- The same with clock_timestamp(), the time of the write, which is also before the commit.
SELECT id, payload, updated_clock AS mark FROM loss_rows WHERE updated_clock > %(since)s::timestamptz;

-- name: updated_now
-- Rows updated after the last one. now() is the start of the transaction, not its commit.
SELECT id, payload, updated_now AS mark FROM loss_rows WHERE updated_now > %(since)s::timestamptz;

-- name: watermark
-- Rows written before the oldest open transaction: no row can appear below it later. The longest transaction of the
-- server delays all rows.
SELECT id, payload, tx AS mark FROM loss_rows
WHERE tx > %(since)s AND tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint;

-- name: xmin
-- Rows of later transactions than the last one, by the system column xmin. Transactions do not commit in the order of
-- their ids, and xmin cannot be indexed.
SELECT id, payload, xmin::text::bigint AS mark FROM loss_rows WHERE xmin::text::bigint > %(since)s;

-- name: settled
-- Whether all transactions have ended that hold the watermark below the written rows. A transaction in any database of
-- the server can hold it.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > coalesce(max(tx), 0) FROM loss_rows;

-- name: truth
SELECT id, payload FROM loss_rows;
