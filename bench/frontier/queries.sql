-- name: decided
-- The outcome and the transaction of these requests.
SELECT request_id, outcome, tx FROM requests WHERE request_id = ANY (%(request_ids)s::uuid[])

-- name: duckdb_loaded
-- Run after the load. Events are not in the lake; they are derived from the rides (rides loaded from files have none).
INSERT INTO ride_events
SELECT ride_id, 1, 'assigned', assigned_at FROM rides WHERE substr(request_id::text, 15, 1) <> '8'
UNION ALL
SELECT ride_id, 2, CASE status WHEN 'cancelled' THEN 'cancelled' ELSE 'started' END,
       CASE status WHEN 'cancelled' THEN ended_at ELSE started_at END
FROM rides WHERE status <> 'assigned' AND substr(request_id::text, 15, 1) <> '8'
UNION ALL
SELECT ride_id, 3, 'completed', ended_at FROM rides
WHERE status = 'completed' AND substr(request_id::text, 15, 1) <> '8';

-- Postgres has the same index, for the look-up of a rider's active ride.
CREATE INDEX rides_by_rider ON rides (rider_id);
