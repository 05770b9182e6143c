-- Of this cluster, for its whole life. A managed server may keep it from us.
SELECT CASE WHEN has_function_privilege('pg_control_system()', 'execute')
            THEN (SELECT system_identifier::text FROM pg_control_system()) END
