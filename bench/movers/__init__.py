"""Other tools that copy tables of Postgres to Parquet files, beside ridelake, on one live store.

tools/NAME.py     the commands of one tool, run in an environment of its own
mover.py          the movers, each a tool with its options; installs and runs them
full_copy.py      full copies beside bookings, asked for torn rows by `torn.sql`
incremental.py    incremental copies beside writers, asked for lost, stale and kept rows
drift.py          values by type, asked for changes; `type_values.sql` has the values
copied.py         reads the files of any mover
watch.py          the longest statement and the oldest snapshot of the server
bench_movers.py   the figures
"""
