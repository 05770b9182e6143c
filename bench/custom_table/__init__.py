"""Benchmarks on a table of the user: `ridelake bench --table`.

subject.py     the table in the user's Postgres, or loaded from a file into a private one, and in a private
lake asking.py      queries, derived from the column types inserting.py   single inserts into copies of the
table, which are dropped afterwards bench_own_table.py
"""
