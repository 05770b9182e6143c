-- name: behind
-- The oid of the database, the server's clock, and the next transaction ID.
SELECT
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
    clock_timestamp(),
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint

-- name: server_status
-- The status of a server without a ride store.
SELECT
    current_setting('server_version') AS postgres,
    (SELECT sum(n_dead_tup)::bigint FROM pg_stat_user_tables) AS dead_rows,
    pg_size_pretty(pg_database_size(current_database())) AS database_size,
    (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(xact_start))::bigint, 0)
     FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()) AS oldest_snapshot_seconds,
    (SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()) AS other_users

-- name: status
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

-- name: summarize
-- A BRIN index has no summary of pages that are new since the last VACUUM, so a query reads all of them.
SELECT brin_summarize_new_values(indexrelid)
FROM ridelake_tracking.tracked
JOIN pg_index ON indrelid = relation OR indrelid IN (SELECT ridelake_tracking.partitions_of(relation))
JOIN pg_class AS c ON c.oid = indexrelid AND c.relkind = 'i'
WHERE pg_get_indexdef(indexrelid) LIKE '%USING brin (tx)%'

-- name: clear_tombstones
-- Delete tombstones that later epochs do not need. `cleared` records it for other lakes of this database.
WITH recorded AS (UPDATE ridelake_tracking.cleared SET before_tx = greatest(before_tx, %(before_tx)s))
DELETE FROM ridelake_tracking.tombstones WHERE tx < %(before_tx)s

-- name: forget_dropped
-- Delete the rows of dropped tables.
DELETE FROM ridelake_tracking.tracked WHERE relation NOT IN (SELECT oid FROM pg_class)
