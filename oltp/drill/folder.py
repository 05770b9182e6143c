"""A folder whose servers end with whoever opened it, however that ends."""

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

from oltp.cluster import Cluster
from oltp.programs import spawn_keeper
from ridelake.errors import CannotConnect

KEEPER = Path(__file__).with_name("keeper.py")

WAIT_SECONDS_MAX = 60.0


@contextmanager
def kept_folder() -> Iterator[Path]:
    """A new folder, each server in a folder of its own in it. However the block is left, no process and no
    file stays; if we are killed, the keeper sees to it.

    Raises CannotConnect if something goes on writing to it."""
    # As the kernel calls it (not by a link): that is what a process says when it is asked where it is.
    folder = Path(tempfile.mkdtemp(prefix="ridelake-drill-")).resolve()
    lock = os.open(folder / "drill.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spawn_keeper(KEEPER, folder)
        yield folder
    finally:
        # Elsewhere if TMPDIR is long.
        sockets = [Cluster(inside).socket_folder for inside in folder.iterdir() if inside.is_dir()]
        clear(folder)
        for socket in sockets:
            shutil.rmtree(socket, ignore_errors=True)
        os.close(lock)


def clear(folder: Path) -> None:
    """End everything that works in the folder, and take it away. Ctrl-C may have come while a server was
    just being started or rewound: pg_ctl and pg_rewind die of it, and what they have started goes on."""
    give_up = time.monotonic() + WAIT_SECONDS_MAX
    while folder.exists():
        for process in _working_in(folder):
            with suppress(psutil.NoSuchProcess):
                # Postgres' "immediate" shutdown; the others ask no questions either.
                process.send_signal(signal.SIGQUIT)
        psutil.wait_procs(_working_in(folder), timeout=1.0)
        for process in _working_in(folder):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if time.monotonic() > give_up:
            raise CannotConnect(f"{folder} cannot be taken away: something still writes to it")
        shutil.rmtree(folder, ignore_errors=True)


def _working_in(folder: Path) -> list[psutil.Process]:
    """Servers, and programs that make or rewind them: by where they are, or by what they were told."""
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
    """Raises CannotConnect, with `otherwise`, if it does not hold in a minute."""
    give_up = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        if time.monotonic() > give_up:
            raise CannotConnect(f"{otherwise} in {WAIT_SECONDS_MAX:.0f} s")
        time.sleep(every_seconds)
