-- Rows written before the oldest open transaction: no row can appear below it later. The longest transaction of the
-- server delays all rows.
SELECT id, payload, tx AS mark FROM loss_rows
WHERE tx > %(since)s AND tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
