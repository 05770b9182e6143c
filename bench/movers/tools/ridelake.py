# /// script
# dependencies = []
# ///
"""ridelake: `ridelake snapshot` to a new lake. A poll is `ridelake sync --once` of a tracked table.

The variant is an option of `snapshot`. Its environment has ridelake without its extras.
"""

import json
import sys
from pathlib import Path
from subprocess import run

if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    folder = Path(job["folder"])
    program = [sys.executable, "-m", "ridelake", "--home", folder / "home", "--dsn", job["conninfo"]]
    program += ["--lake", folder / "lake"]
    own = [option for table in job["tables"] for option in ("--table", table)] if job["own_tables"] else []
    action = ["sync", "--once"] if job["poll"] else ["snapshot", *job["variant"].split()]
    sys.exit(run([*program, *action, *own], check=False).returncode)
