"""Benchmarks on a table of the user: `ridelake bench --table`.

subject.py             the table under test, and single inserts into copies of it
from_file.py           the table loaded from a file into a private Postgres
bench_custom_table.py  the benchmarks, and their queries
"""
