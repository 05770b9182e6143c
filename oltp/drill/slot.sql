-- Drops the slot %(name)s if nobody uses it. Rows: it was there, so it is asked again until there are none.
SELECT slot_name, CASE WHEN NOT active THEN pg_drop_replication_slot(slot_name) END
FROM pg_replication_slots
WHERE slot_name = %(name)s
