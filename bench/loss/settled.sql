-- Has every transaction ended that could hold the watermark below what was written? One of any database of
-- the server can.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > coalesce(max(tx), 0) FROM loss_rows;
