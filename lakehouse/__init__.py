"""lakehouse: rows become an epoch, and any engine reads it.

A columnar file stores the values of one column together, so a query on four columns reads four
columns. The files are Parquet. The list of files of an epoch is stored in an open table format
(Iceberg v2). The engine is chosen per query:

    Postgres ──snapshot──> epoch 1, 2, 3 … ──pinned file list──> duckdb
    (one REPEATABLE READ     every table,                        polars
     transaction)            one commit                          postgres (reads the tables, not the files)

`take` creates an epoch, `catalog` publishes it, `engines/` run queries on it.
"""
