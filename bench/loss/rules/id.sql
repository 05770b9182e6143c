-- Whatever has a greater id than the greatest seen. Numbers are drawn in one order and committed in another.
SELECT id, payload, id AS mark FROM loss_rows WHERE id > %(since)s;
