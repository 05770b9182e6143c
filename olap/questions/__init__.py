"""Questions that a ride company asks: `<name>.sql` and `<name>.py` give the same answer.

The SQL is one text for every engine that speaks SQL: standard words only, no value pasted in, integer
cents, and an ORDER BY that leaves no ties. The first line says what it is for. The Python is the same
question as a pure function of Polars frames.

A line `-- $name = value: meaning` declares a parameter: `$name` in the SQL, an argument of the Python, and
`-p name=…` for whoever asks.

Those that begin with "A look-up" want a few rows by a key that the row store has an index for; there it is
the row store that wins.
"""
