"""The named questions: `<name>.sql` and `<name>.py` return the same rows.

All SQL engines run the same text: standard SQL, bound values, integer cents, and an ORDER BY without ties.
The first line is a comment with the question. The Python file is the same query as a pure function of Polars
frames.

A line `-- $name = value: meaning` declares a parameter and its default: `$name` in the SQL, an argument of
the Python function, and `-p name=…` on the command line.

A question that begins with "A look-up" reads a few rows by an indexed key. For these questions Postgres is
faster than the engines over files.
"""
