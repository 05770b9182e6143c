# /// script
# dependencies = ["sling-linux-amd64==1.4.11"]
# ///
"""sling: a replication file with a stream for each table, `mode: full-refresh`, to Parquet files.

It writes with its Arrow writer, because the usual one downloads a DuckDB. A file as the target of an
incremental stream needs a paid token: sling is not polled. The telemetry is off.
"""

import json
import sys
from pathlib import Path
from subprocess import run

if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    streams = {
        table: {"object": f"file://{folder}/{table.split('.')[1]}/0.parquet"} for table in job["tables"]
    }
    replication = {
        "source": "STORE",
        "target": "LOCAL",
        "defaults": {"mode": "full-refresh", "target_options": {"format": "parquet"}},
        "streams": streams,
        "env": {"SLING_DUCKDB_COMPUTE": "false"},
    }
    file = folder / "replication.yaml"
    file.write_text(json.dumps(replication))
    (program,) = Path(sys.prefix).rglob("bin/sling-linux-amd64")
    environment = {
        "STORE": job["url"],
        "SLING_DUCKDB_COMPUTE": "false",
        "SLING_DISABLE_TELEMETRY": "true",
        "SLING_HOME_DIR": str(folder),
    }
    sys.exit(run([program, "run", "--replication", file], env=environment, check=False).returncode)
