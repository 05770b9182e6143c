"""Other tools that copy tables of Postgres to Parquet files, beside ridelake, on one live store.

    tools/NAME.py    the commands of one tool, run in an environment of its own
    mover.py         the movers: a tool with its options; installs and runs them
    copied.py        reads the files of any mover, and asks them for torn rows, differences and drift
    watch.py         the longest statement and the oldest snapshot of the server

A full copy is asked for torn rows: rows that violate a condition which holds in Postgres at every instant.
"""
