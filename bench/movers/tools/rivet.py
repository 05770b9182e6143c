# /// script
# dependencies = ["rivet-cli==0.32.2"]
# ///
"""rivet: a configuration file with an export for each table, and `rivet run`.

`mode: full`, or `mode: incremental` with the cursor column `updated_now` for a poll. The variant is the
tuning profile: `fast`, or `balanced`, which is the default and pauses after each batch. rivet keeps its
cursor in a database beside the configuration.
"""

import json
import sys
from pathlib import Path
from subprocess import run

if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    exports = []
    for table in job["tables"]:
        export = {
            "name": table.split(".")[1],
            "table": table,
            "mode": "full",
            "format": "parquet",
            "destination": {"type": "local", "path": str(Path(job["folder"], table.split(".")[1]))},
        }
        if job["poll"]:
            export |= {"mode": "incremental", "cursor_column": "updated_now", "skip_empty": True}
        exports.append(export)
    source = {
        "type": "postgres",
        "url": job["url"],
        "tls": {"mode": "disable"},  # without it, a socket is refused as a remote server
        "tuning": {"profile": job["variant"] or "balanced"},
    }
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "rivet.yaml"
    config.write_text(json.dumps({"source": source, "exports": exports}))  # YAML contains JSON
    program = Path(sys.executable).with_name("rivet")
    sys.exit(run([program, "run", "--config", config], check=False).returncode)
