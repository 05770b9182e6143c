"""The contrast on a table of the user's own: `ridelake bench --table`.

subject.py     the table, in its Postgres (or loaded from a file into one of ours) and in a lake of ours
asking.py      what to ask of it, found from its types
inserting.py   single rows, into copies of it that are dropped again
bench_own_table.py
"""
