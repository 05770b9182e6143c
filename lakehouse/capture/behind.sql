-- The oid of the database, the server's clock, and the next transaction number.
SELECT
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
    clock_timestamp(),
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint
