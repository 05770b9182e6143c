"""The proof that Parquet files equal a Postgres table, row for row.

    each row      → its bytes → md5 → 60 bits
    each engine   → for each of some hundred buckets: how many rows, and the sum of their numbers
    all equal     → the tables are equal
    otherwise     → key and number of each row in the buckets that differ; the rows of the keys that differ

Two engines compute it and share no code: Postgres in SQL inside the caller's snapshot, DuckDB in SQL over
the files, with a reader of its own. Whatever extraction, decoding or writing did wrong, only one has seen.
A row's bucket comes out of its own number, so that one md5 is all that a row costs: a row that was changed
is in one bucket of Postgres and in another of the lake, and both differ.

The bytes of a row are those in which Postgres sends it as a binary `record`: each value with its type, its
length and itself, a NULL as the length -1. No two rows share them, no session setting changes them, and
Postgres makes them in one call. `forms.py` says how DuckDB writes the same.
"""

from lakehouse.proof.comparison import Comparison, compare
from lakehouse.proof.difference import Difference

__all__ = ["Comparison", "Difference", "compare"]
