"""Other tools that copy tables of Postgres to Parquet files, compared with ridelake on one live store.

tools/NAME.py     the commands of one tool, run in its own environment
mover.py          the movers, each a tool with its options; installs and runs them
full_copy.py      full copies beside bookings, checked for torn rows with `torn.sql`
incremental.py    incremental copies beside writers, checked for lost, stale and kept rows
drift.py          values by type, checked for changes; `type_values.sql` has the values
copied.py         reads the files of any mover
watch.py          the longest statement and the oldest snapshot of the server
bench_movers.py   the figures
"""
