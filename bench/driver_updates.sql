-- How many versions of drivers were written so far, and how many of them without touching an index.
SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'drivers'::regclass
