-- The status of the server: row estimates of the planner, dead rows, and the age of the oldest snapshot, which prevents
-- VACUUM from removing them.
SELECT
    current_setting('server_version') AS postgres,
    (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'rides'::regclass) AS rides_estimated,
    (SELECT count(*) FROM rides WHERE status IN ('assigned', 'started')) AS rides_under_way,
    (SELECT count(*) FROM drivers WHERE status = 'available') AS drivers_available,
    (SELECT sum(n_dead_tup)::bigint FROM pg_stat_user_tables WHERE schemaname = 'ridelake') AS dead_rows,
    (SELECT pg_size_pretty(sum(pg_total_relation_size(relid)))
     FROM pg_stat_user_tables WHERE schemaname = 'ridelake') AS store_size,
    (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(xact_start))::bigint, 0)
     FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()) AS oldest_snapshot_seconds,
    (SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()) AS other_users
