-- The number of updates of drivers, and of those without an index update (HOT).
SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'drivers'::regclass
