"""lakehouse: publish rows of Postgres as Parquet epochs, and query them with several engines.

A columnar file stores the values of one column together, so a query on four columns reads four
columns. The files are Parquet. The list of files of an epoch is stored in an open table format
(Iceberg v2). The engine is chosen per query:

    Postgres ──snapshot──> epoch 1, 2, 3 … ──pinned file list──> duckdb
    (one REPEATABLE READ     every table,                        polars
     transaction)            one commit                          postgres (reads the tables, not the files)

The parts, from the lowest layer to the highest:

    table/        epochs, files, Iceberg metadata; `catalog.py`: the commit that makes an epoch atomic
    source/       tables of Postgres: their snapshot, their rows, their changes
    verify/       compare the lake with Postgres row by row
    capture/      from a snapshot to a published epoch; sync, maintenance
    rest_catalog/ epochs for the clients of an Iceberg REST catalog
    engines/      run queries on an epoch; `__init__.py`: how to add an engine
    inspect/      the bytes of a row in both layouts
    commands/     the command line
"""
