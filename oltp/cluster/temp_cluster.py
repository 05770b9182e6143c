"""A temporary folder for servers, which end with the process that opened it."""

import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from oltp.cluster.process import spawn_reaper
from oltp.cluster.server import Cluster
from ridelake.errors import CannotConnect

KEEPER = Path(__file__).with_name("folder_reaper.py")

WAIT_SECONDS_MAX = 60.0


@contextmanager
def server_folder() -> Iterator[Path]:
    """A new folder, with a subfolder for each server. When the block is left, all processes in it are ended
    and the folder is deleted; if this process is killed, a monitor process does that.

    Raises CannotConnect if a process keeps writing to the folder."""
    # Resolved, because processes are found by their working directory, which contains no symbolic links.
    folder = Path(tempfile.mkdtemp(prefix="ridelake-drill-")).resolve()
    lock = os.open(folder / "drill.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spawn_reaper(KEEPER, folder)
        yield folder
    finally:
        # They are outside of the folder if TMPDIR is long.
        sockets = [Cluster(inside).socket_folder for inside in folder.iterdir() if inside.is_dir()]
        remove_folder(folder)
        for socket in sockets:
            shutil.rmtree(socket, ignore_errors=True)
        os.close(lock)


def remove_folder(folder: Path) -> None:
    """End all processes that work in the folder, and delete it. After a Ctrl-C during pg_ctl or pg_rewind,
    the processes that they have started may still run."""
    give_up = time.monotonic() + WAIT_SECONDS_MAX
    while folder.exists():
        for process in _working_in(folder):
            with suppress(psutil.NoSuchProcess):
                # Postgres' "immediate" shutdown; it ends the other programs too.
                process.send_signal(signal.SIGQUIT)
        psutil.wait_procs(_working_in(folder), timeout=1.0)
        for process in _working_in(folder):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if time.monotonic() > give_up:
            raise CannotConnect(f"cannot delete {folder}: a process still writes to it")
        shutil.rmtree(folder, ignore_errors=True)


def _working_in(folder: Path) -> list[psutil.Process]:
    """Servers, and programs that create or rewind them, found by working directory or arguments."""
    found = []
    for process in psutil.process_iter(["name"]):
        if (process.info["name"] or "").startswith(("postgres", "pg_", "initdb")):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                alive = process.status() != psutil.STATUS_ZOMBIE
                where = " ".join([process.cwd(), *process.cmdline()])
                if alive and str(folder) in where:
                    found.append(process)
    return found


def wait_until(holds: Callable[[], bool], otherwise: str, every_seconds: float = 0.02) -> None:
    """Wait until `holds()` is true. Raises CannotConnect, with the text `otherwise`, after a minute."""
    give_up = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        if time.monotonic() > give_up:
            raise CannotConnect(f"{otherwise} in {WAIT_SECONDS_MAX:.0f} s")
        time.sleep(every_seconds)
