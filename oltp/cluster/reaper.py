"""Ends the servers of a folder whose last user was killed. Runs as a separate program, standard library only.

    reaper.py FOLDER          stop the server, unless `ridelake up` keeps it running
    reaper.py FOLDER delete   end all servers immediately and delete the folder

It waits for the lock that every user of the folder holds. When it gets the lock, there are no users. It then
stops the servers and exits; the next start of the server starts another monitor.
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

STOP_SECONDS_MAX = 60.0
QUIET_SECONDS = 2.0  # seconds; long enough to find a server that was starting when its user was killed
SOCKET_LINE = 4  # of postmaster.pid
PROGRAM = re.compile(r"(?:^|/)(?:postgres|pg_\w+|initdb) ")  # its path may contain blanks


def reap(folder: Path, delete: bool) -> None:
    with (folder / "users.lock").open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        if (folder / "held").exists():
            return
        # The lock is held until the servers have stopped, so that the next user waits.
        if not delete:
            # pg_ctl may have started a server that `working_in` does not see yet.
            quiet_seconds = QUIET_SECONDS if (folder / "starting").exists() else 0.0
            end_servers(folder, signal.SIGINT, quiet_seconds)  # Postgres' "fast" shutdown
            return
        sockets = sockets_elsewhere(folder)
        end_servers(folder, signal.SIGQUIT, QUIET_SECONDS)  # "immediate", which includes child processes
    for left_over in (folder, *sockets):
        shutil.rmtree(left_over, ignore_errors=True)


def end_servers(folder: Path, signal_: signal.Signals, quiet_seconds: float) -> None:
    """Signal every server and program of the folder, until there has been none for `quiet_seconds`."""
    now = quiet_since = time.monotonic()
    give_up = now + STOP_SECONDS_MAX
    while folder.exists() and (now := time.monotonic()) < give_up:
        pids = working_in(folder)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal_)
        if pids:
            quiet_since = now
        elif now >= quiet_since + quiet_seconds:
            return
        time.sleep(0.05)


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
    """Servers, and programs that create or rewind them, by their arguments. The pid file is written a moment
    after the start, and may be deleted with its folder."""
    listed = subprocess.run(
        # In other locales ps may print letters that are not ASCII as `?`.
        ["env", "LC_ALL=C.UTF-8", "ps", "-A", "-ww", "-o", "pid=,args="],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    found = []
    for line in listed.stdout.splitlines():
        pid, _, args = line.replace('"', "").strip().partition(" ")  # pg_ctl quotes paths for its shell
        if f" -D {folder}/" in args and PROGRAM.search(args):
            found.append(int(pid))
    return found


if __name__ == "__main__":
    reap(Path(sys.argv[1]), delete=sys.argv[2:] == ["delete"])
