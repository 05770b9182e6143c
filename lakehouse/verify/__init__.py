"""Compare Parquet files with a Postgres table, row by row.

    each row      → its bytes → md5 → a hash of 60 bits
    each engine   → for each of some hundred buckets: the number of rows, and the sum of their hashes
    all equal     → the tables are equal
    otherwise     → key and hash of each row in the buckets that differ, then the rows of the keys that differ

Two engines compute this independently: Postgres in SQL in the caller's snapshot, DuckDB in SQL on the files
with its own reader. An error of extraction, decoding or writing affects only one of them. The bucket of a row
is part of its hash, so each row needs one md5. A changed row is in one bucket in Postgres and usually in
another one in the lake; both buckets then differ.

The bytes of a row are the binary format of a Postgres `record`: each value with its type and length; a NULL
has the length -1. Different rows have different bytes, session settings do not change them, and Postgres
computes them in one call. `row_encoding.py` defines how DuckDB computes the same bytes.
"""

from lakehouse.verify.compare import RowDifference, TableComparison, compare_table

__all__ = ["RowDifference", "TableComparison", "compare_table"]
