-- The same by clock_timestamp(), which is when the row was written; that too is before the commit.
SELECT id, payload, updated_clock AS mark FROM loss_rows WHERE updated_clock > %(since)s::timestamptz;
