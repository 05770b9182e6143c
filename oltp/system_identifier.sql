-- The system identifier of the cluster; NULL if this role may not read it, as on some managed servers.
SELECT CASE WHEN has_function_privilege('pg_control_system()', 'execute')
            THEN (SELECT system_identifier::text FROM pg_control_system()) END
