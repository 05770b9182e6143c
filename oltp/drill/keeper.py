"""Ends what a killed drill has left. A program of its own, standard library only.

    keeper.py FOLDER

It waits for the lock that the drill holds. Getting it means that the drill has ended: by itself, and then the
folder is gone; or by SIGKILL, and then every server in the folder is killed, and the folder taken away.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

QUIET_SECONDS = 2.0  # a server that was just being started writes its pid file by then


def main(folder: Path) -> None:
    with (folder / "drill.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    quiet_since = time.monotonic()
    while folder.exists() and time.monotonic() < quiet_since + QUIET_SECONDS:
        for written in folder.glob("*/*/postmaster.pid"):
            with suppress(OSError, ValueError):
                pid = int(written.read_text().split("\n", 1)[0])
                if is_postgres(pid):
                    os.kill(pid, signal.SIGQUIT)  # Postgres' "immediate" shutdown: its children end too
                    quiet_since = time.monotonic()
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def is_postgres(pid: int) -> bool:
    named = subprocess.run(["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return named.stdout.strip().rsplit("/", 1)[-1] == "postgres"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
