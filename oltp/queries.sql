-- name: has_tracking
-- Whether tracking.sql is installed in a version that epochs can use, and this role may read its tables.
SELECT bool_and(CASE WHEN has_schema_privilege(n.oid, 'USAGE') THEN has_table_privilege(c.oid, 'SELECT') ELSE false END)
       AND count(*) = 3
       AND EXISTS (SELECT FROM pg_proc WHERE pronamespace = min(n.oid::bigint)::oid AND proname = 'partitions_of')
FROM pg_namespace AS n
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname IN ('tracked', 'tombstones', 'cleared') AND c.relkind = 'r'
WHERE n.nspname = 'ridelake_tracking'

-- name: tracking_version
-- The version of the installed tracking.sql; NULL if it does not state it.
SELECT substring(obj_description(oid, 'pg_proc') FROM '^version ([0-9]+)$')::integer
FROM pg_proc WHERE pronamespace = to_regnamespace('ridelake_tracking') AND proname = 'track'

-- name: system_identifier
-- The system identifier of the cluster; NULL if this role may not read it, as on some managed servers.
SELECT CASE WHEN has_function_privilege('pg_control_system()', 'execute')
            THEN (SELECT system_identifier::text FROM pg_control_system()) END
