# /// script
# dependencies = ["ingestr==1.0.78", "pyarrow==26.0.1"]
# ///
"""ingestr: `ingestr ingest` once for each table, to `parquet://`.

A poll is `--incremental-strategy append` from the greatest `updated_now` of the files, which pyarrow reads:
ingestr leaves the start of the interval to its caller. A full copy does not import pyarrow, so that its time
and memory are those of ingestr. The telemetry is off: it would wait for a network at the end of each call.
"""

import json
import sys
from pathlib import Path
from subprocess import run
from time import time_ns


def newest(files: list[Path]) -> str:
    """The greatest `updated_now` of the files."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    marks = [pc.max(pq.read_table(file, columns=["updated_now"])[0]).as_py() for file in files]
    return str(max(marks).isoformat())


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    program = str(Path(sys.executable).with_name("ingestr"))
    environment = {"INGESTR_DISABLE_TELEMETRY": "true"}
    for table in job["tables"]:
        folder = Path(job["folder"], table.split(".")[1])
        found = list(folder.glob("*.parquet"))
        folder.mkdir(parents=True, exist_ok=True)
        command = [program, "ingest", "--yes", "--progress=log", f"--source-uri={job['url']}"]
        command += [f"--source-table={table}", f"--dest-uri=parquet://{folder}/{time_ns()}.parquet"]
        command += [f"--dest-table={table}"]
        if job["poll"] and found:
            command += ["--incremental-strategy=append", "--incremental-key=updated_now"]
            command += [f"--interval-start={newest(found)}"]
        if code := run(command, env=environment, check=False).returncode:
            sys.exit(code)
