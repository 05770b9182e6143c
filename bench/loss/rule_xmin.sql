-- Rows of later transactions than the last one, by the system column xmin. Transactions do not commit in the order of
-- their ids, and xmin cannot be indexed.
SELECT id, payload, xmin::text::bigint AS mark FROM loss_rows WHERE xmin::text::bigint > %(since)s;
