-- Whatever was updated later than the latest seen. now() is when a transaction began, not when it committed.
SELECT id, payload, updated_now AS mark FROM loss_rows WHERE updated_now > %(since)s::timestamptz;
