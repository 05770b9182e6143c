# /// script
# dependencies = ["adbc-driver-postgresql==1.13.0", "pyarrow==26.0.1"]
# ///
"""ADBC's Postgres driver and pyarrow: `SELECT *` as record batches, and a ParquetWriter.

The tables are read by one connection in its default transaction, which is READ COMMITTED, or with
`repeatable-read` in a transaction of that level.
"""

import json
import sys
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pyarrow.parquet as pq

if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    with adbc.connect(job["url"]) as connection, connection.cursor() as cursor:
        if job["variant"] == "repeatable-read":
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for table in job["tables"]:
            folder = Path(job["folder"], table.split(".")[1])
            folder.mkdir(parents=True)
            cursor.execute(f"SELECT * FROM {table}")  # noqa: S608
            reader = cursor.fetch_record_batch()
            with pq.ParquetWriter(folder / "0.parquet", reader.schema, compression="zstd") as writer:
                for batch in reader:
                    writer.write_batch(batch)
