-- Whatever a later transaction wrote than the latest seen, by Postgres' own column. Numbers of transactions
-- are drawn in one order and committed in another, too; no index helps.
SELECT id, payload, xmin::text::bigint AS mark FROM loss_rows WHERE xmin::text::bigint > %(since)s;
