"""DuckDB's scanner of Postgres, run in an interpreter of its own: its extension is made for DuckDB 1.5.

For every line of stdin (a table, where the Parquet file goes), prints how many seconds the export took.
"""

import sys
from pathlib import Path
from time import perf_counter

import duckdb

if __name__ == "__main__":
    conninfo, extension_folder, threads = sys.argv[1:]
    (extension,) = Path(extension_folder).rglob("postgres_scanner.duckdb_extension")
    engine = duckdb.connect()
    engine.execute("SET enable_progress_bar = false")
    engine.execute(f"SET threads = {int(threads)}")
    engine.load_extension(str(extension))
    attached = conninfo.replace("'", "''")
    engine.execute(f"ATTACH '{attached}' AS store (TYPE postgres, READ_ONLY)")
    for line in sys.stdin:
        table, target = line.rstrip("\n").split("\t")
        started = perf_counter()
        query = f"COPY (FROM store.{table}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
        engine.execute(query)
        sys.stdout.write(f"{perf_counter() - started}\n")
        sys.stdout.flush()
