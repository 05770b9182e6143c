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
from contextlib import suppress
from pathlib import Path

STOP_SECONDS_MAX = 60


def main(folder: Path) -> None:
    with (folder / "users.lock").open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        if (folder / "held").exists():
            return
        # The lock is held meanwhile, so that the next user waits.
        until = time.monotonic() + STOP_SECONDS_MAX
        asked = set[int]()
        while (pids := servers_of(folder / "data")) and time.monotonic() < until:
            for pid in pids - asked:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
            asked |= pids
            time.sleep(0.05)


def servers_of(data: Path) -> set[int]:
    """The process ids of servers that were started for the folder. Not by their pid file: it is written a
    moment after the start, and it may be deleted with its folder."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=False
    )
    lines = (line.strip().partition(" ") for line in listed.stdout.splitlines())
    return {int(pid) for pid, _, args in lines if "/postgres -D" in args and f"-D {data} " in f"{args} "}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
