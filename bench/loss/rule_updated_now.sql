-- Rows updated after the last one. now() is the start of the transaction, not its commit.
SELECT id, payload, updated_now AS mark FROM loss_rows WHERE updated_now > %(since)s::timestamptz;
