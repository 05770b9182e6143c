-- Only what was written before the oldest transaction that is still open: nothing can come in below that. The
-- longest transaction of the whole server keeps back everybody's rows.
SELECT id, payload, tx AS mark FROM loss_rows
WHERE tx > %(since)s AND tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
