-- The status of a server without a ride store.
SELECT
    current_setting('server_version') AS postgres,
    (SELECT sum(n_dead_tup)::bigint FROM pg_stat_user_tables) AS dead_rows,
    pg_size_pretty(pg_database_size(current_database())) AS database_size,
    (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(xact_start))::bigint, 0)
     FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()) AS oldest_snapshot_seconds,
    (SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()) AS other_users
