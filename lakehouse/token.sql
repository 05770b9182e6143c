-- In one statement and so of one snapshot: the log position is read after the snapshot is taken, and all
-- that the snapshot shows is before it.
SELECT
    pg_current_snapshot()::text,
    to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00'),
    pg_current_wal_insert_lsn()::text,
    CASE WHEN has_function_privilege('pg_control_system()', 'execute')
         THEN (SELECT system_identifier::text FROM pg_control_system()) END,
    CASE WHEN has_function_privilege('pg_control_checkpoint()', 'execute')
         THEN (SELECT timeline_id FROM pg_control_checkpoint()) END,
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database())
