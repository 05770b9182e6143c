"""Cleans up after a killed drill. Runs as a separate program, standard library only.

    folder_reaper.py FOLDER

It waits for the lock that the drill holds. When it gets the lock, the drill has ended. If the folder still
exists, the drill was killed, and this program kills every server in the folder and deletes it.
"""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

QUIET_SECONDS = 2.0  # a server that was being started at the kill is found by then
SOCKET_LINE = 4  # of postmaster.pid
PROGRAM = re.compile(r"(?:^|/)(?:postgres|pg_\w+|initdb) ")  # its path may contain blanks


def reap(folder: Path) -> None:
    with (folder / "drill.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    sockets = sockets_elsewhere(folder)
    quiet_since = time.monotonic()
    while folder.exists() and time.monotonic() < quiet_since + QUIET_SECONDS:
        for pid in working_in(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)  # Postgres' "immediate" shutdown, which includes child processes
            quiet_since = time.monotonic()
        time.sleep(0.1)
    for left_over in (folder, *sockets):
        shutil.rmtree(left_over, ignore_errors=True)


def sockets_elsewhere(folder: Path) -> list[Path]:
    """The socket folders of its servers that are outside of the folder, because its path is too long."""
    found = []
    for pid_file in folder.glob("*/data/postmaster.pid"):
        with suppress(OSError, IndexError):
            socket = Path(pid_file.read_text().splitlines()[SOCKET_LINE])
            if socket.name.startswith("ridelake-"):
                found.append(socket)
    return found


def working_in(folder: Path) -> list[int]:
    """Servers, and programs that create or rewind them, found by their arguments."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=False
    )
    found = []
    for line in listed.stdout.splitlines():
        pid, _, args = line.strip().partition(" ")
        if f"{folder}/" in args and PROGRAM.search(args):
            found.append(int(pid))
    return found


if __name__ == "__main__":
    reap(Path(sys.argv[1]))
