"""DuckDB's Postgres scanner, run in a separate interpreter because its extension requires DuckDB 1.5.

Reads lines of a table and a target file from stdin, and prints the seconds of each export.
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
        quoted = target.replace("'", "''")
        query = f"COPY (FROM store.{table}) TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)"
        engine.execute(query)
        sys.stdout.write(f"{perf_counter() - started}\n")
        sys.stdout.flush()
