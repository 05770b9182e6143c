"""Stops an embedded server whose last user was killed. Runs as a separate program, standard library only.

    reaper.py FOLDER

It waits for the lock that every user holds (see `embedded`). When it gets the lock, there are no users, and
it stops the server, unless `ridelake up` keeps it running. Then it exits; the next start of the server starts
another monitor.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

STOP_SECONDS_MAX = 60


def main(folder: Path) -> None:
    with (folder / "users.lock").open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        if (folder / "held").exists():
            return
        # The lock is held until the server has stopped, so that the next user waits.
        until = time.monotonic() + STOP_SECONDS_MAX
        signalled = set[int]()
        while (pids := servers_of(folder / "data")) and time.monotonic() < until:
            for pid in pids - signalled:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
            signalled |= pids
            time.sleep(0.05)


def servers_of(data: Path) -> set[int]:
    """The process ids of the servers of a data folder, from their arguments. The pid file is written a moment
    after the start, and may be deleted with its folder."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=False
    )
    lines = (line.strip().partition(" ") for line in listed.stdout.splitlines())
    return {int(pid) for pid, _, args in lines if "/postgres -D" in args and f"-D {data} " in f"{args} "}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
