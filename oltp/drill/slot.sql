-- Drops the slot %(name)s if it is not in use. Repeat until no row is returned: then the slot does not exist.
SELECT slot_name, CASE WHEN NOT active THEN pg_drop_replication_slot(slot_name) END
FROM pg_replication_slots
WHERE slot_name = %(name)s
