-- The same with clock_timestamp(), the time of the write, which is also before the commit.
SELECT id, payload, updated_clock AS mark FROM loss_rows WHERE updated_clock > %(since)s::timestamptz;
