-- name: slot
-- Drops the slot %(name)s if it is not in use. Repeat until no row is returned: then the slot does not exist.
SELECT slot_name, CASE WHEN NOT active THEN pg_drop_replication_slot(slot_name) END
FROM pg_replication_slots
WHERE slot_name = %(name)s

-- name: stored
-- The decision and the number of rides of each of the requests %(sent)s.
SELECT s.request_id, q.outcome, q.ride_id, q.driver_id, count(r.ride_id), bool_or(r.status = 'completed')
FROM unnest(%(sent)s::uuid[]) AS s (request_id)
LEFT JOIN requests AS q USING (request_id)
LEFT JOIN rides AS r USING (request_id)
GROUP BY s.request_id, q.outcome, q.ride_id, q.driver_id
