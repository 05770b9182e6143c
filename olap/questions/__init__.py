"""Questions that a ride company asks: `<name>.sql` and `<name>.py` give the same answer.

The SQL is one text for every engine that speaks SQL: standard words only, no value pasted in, integer
cents, and an ORDER BY that leaves no ties. The first line says what it is for. The Python is the same
question as a pure function of Polars frames.
"""
