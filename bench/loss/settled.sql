-- Whether all transactions have ended that hold the watermark below the written rows. A transaction in any database of
-- the server can hold it.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > coalesce(max(tx), 0) FROM loss_rows;
