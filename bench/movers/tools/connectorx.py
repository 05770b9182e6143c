# /// script
# dependencies = ["connectorx==0.4.6", "pyarrow==26.0.1"]
# ///
"""ConnectorX: `read_sql(…, return_type="arrow")`, and `write_table`.

A connection for each table. The table is in memory before it is written. The folder of a socket is written in
the place of the host.
"""

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

import connectorx
import pyarrow.parquet as pq

if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    parts = urlsplit(job["url"])
    url = f"postgresql://{parts.netloc}{parts.query.removeprefix('host=')}{parts.path}"
    for table in job["tables"]:
        folder = Path(job["folder"], table.split(".")[1])
        folder.mkdir(parents=True)
        rows = connectorx.read_sql(url, f"SELECT * FROM {table}", return_type="arrow")  # noqa: S608
        pq.write_table(rows, folder / "0.parquet", compression="zstd")
