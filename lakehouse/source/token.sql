-- One statement, so one snapshot. The WAL position is read after the snapshot is taken, so it is after everything that
-- the snapshot can see.
SELECT
    pg_current_snapshot()::text,
    to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US+00:00'),
    pg_current_wal_insert_lsn()::text,
    CASE WHEN has_function_privilege('pg_control_system()', 'execute')
         THEN (SELECT system_identifier::text FROM pg_control_system()) END,
    -- The timeline, from the name of the current WAL file. After a promotion pg_control_checkpoint() returns the old
    -- timeline until the next checkpoint, which can take minutes.
    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int,
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database())
