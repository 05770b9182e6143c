"""lakehouse: rows become an epoch, and any engine reads it.

A column-major file keeps one column of many rides together, so that a question about four columns
reads four columns. The files are open Parquet; which files belong to an epoch is written in an open
table format (Iceberg v2); what answers a question is chosen when it is asked:

    Postgres ──snapshot──> epoch 1, 2, 3 … ──pinned file list──> duckdb
    (one REPEATABLE READ     every table,                        polars
     transaction)            one commit                          postgres (the rows, for contrast)

`snapshot` takes an epoch, `catalog` publishes it, `engines/` answers over it.
"""
