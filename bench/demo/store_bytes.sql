-- Heap, indexes and all else of the store's tables.
SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_stat_user_tables WHERE schemaname = 'ridelake'
