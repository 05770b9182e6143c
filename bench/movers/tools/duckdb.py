# /// script
# dependencies = ["duckdb==1.5.5", "duckdb-extension-postgres-scanner==1.5.5"]
# ///
"""DuckDB's Postgres scanner: `COPY (FROM attached.table) TO file`.

By default each statement has its own transaction. With `transaction`, all tables are copied between BEGIN and
COMMIT, and DuckDB reads them in one Postgres transaction, which is REPEATABLE READ.
A poll reads the rows above the greatest `updated_now` of the files, which is what a user would write by hand.
"""

import json
import sys
from pathlib import Path
from time import time_ns

import duckdb

if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    (extension,) = Path(sys.prefix).rglob("postgres_scanner.duckdb_extension")
    engine = duckdb.connect()
    engine.load_extension(str(extension))
    conninfo = job["conninfo"].replace("'", "''")
    engine.execute(f"ATTACH '{conninfo}' AS store (TYPE postgres, READ_ONLY)")
    if job["variant"] == "transaction":
        engine.execute("BEGIN")
    for table in job["tables"]:
        folder = Path(job["folder"], table.split(".")[1])
        copied_before = any(folder.glob("*.parquet"))
        folder.mkdir(parents=True, exist_ok=True)
        where = ""
        if job["poll"] and copied_before:
            newest = engine.read_parquet(f"{folder}/*.parquet").max("updated_now")
            (mark,) = newest.project("#1::varchar").fetchall()[0]
            where = f"WHERE updated_now > '{mark}'"
        target = folder / f"{time_ns()}.parquet"
        engine.execute(f"COPY (FROM store.{table} {where}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
    if job["variant"] == "transaction":
        engine.execute("COMMIT")
