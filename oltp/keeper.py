"""Stops an embedded server whose last user was killed. A program of its own, standard library only.

    keeper.py FOLDER

It waits for the lock that every user holds (see `embedded`). Getting it means that nobody is left: then
it stops the server, unless `ridelake up` holds it. It ends in any case; the next start of the server
starts the next keeper.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STOP_SECONDS_MAX = 60


def main(folder: Path) -> None:
    with (folder / "users.lock").open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        if (folder / "held").exists():
            return
        try:
            pid = int((folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        if not is_postgres(pid):
            return
        os.kill(pid, signal.SIGINT)
        until = time.monotonic() + STOP_SECONDS_MAX  # with the lock held: who comes now, waits
        while is_postgres(pid) and time.monotonic() < until:
            time.sleep(0.05)


def is_postgres(pid: int) -> bool:
    named = subprocess.run(["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return named.stdout.strip().rsplit("/", 1)[-1] == "postgres"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
