"""Ends what a killed drill has left. A program of its own, standard library only.

    keeper.py FOLDER

It waits for the lock that the drill holds. Getting it means that the drill has ended: by itself, and then the
folder is gone; or by SIGKILL, and then every server in the folder is killed, and the folder taken away.
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

QUIET_SECONDS = 2.0  # a server that was just being started is there by then
SOCKET_LINE = 4  # of postmaster.pid
PROGRAM = re.compile(r"(?:^|/)(?:postgres|pg_\w+|initdb) ")  # its path may have blanks


def main(folder: Path) -> None:
    with (folder / "drill.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    sockets = sockets_elsewhere(folder)
    quiet_since = time.monotonic()
    while folder.exists() and time.monotonic() < quiet_since + QUIET_SECONDS:
        for pid in working_in(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)  # Postgres' "immediate" shutdown: its children end too
            quiet_since = time.monotonic()
        time.sleep(0.1)
    for gone in (folder, *sockets):
        shutil.rmtree(gone, ignore_errors=True)


def sockets_elsewhere(folder: Path) -> list[Path]:
    """Where its servers have their sockets, if the folder's own path is too long for one."""
    found = []
    for pid_file in folder.glob("*/data/postmaster.pid"):
        with suppress(OSError, IndexError):
            socket = Path(pid_file.read_text().splitlines()[SOCKET_LINE])
            if socket.name.startswith("ridelake-"):
                found.append(socket)
    return found


def working_in(folder: Path) -> list[int]:
    """Servers, and programs that make or rewind them, by what they were told."""
    told = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=False
    )
    found = []
    for line in told.stdout.splitlines():
        pid, _, args = line.strip().partition(" ")
        if f"{folder}/" in args and PROGRAM.search(args):
            found.append(int(pid))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
