-- Rows with a greater id than the last one. Ids are not committed in the order in which they are drawn.
SELECT id, payload, id AS mark FROM loss_rows WHERE id > %(since)s;
