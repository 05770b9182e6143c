"""The embedded Postgres, installed from a wheel. It runs while at least one process uses it.

    HOME/postgres/users.lock  shared lock, held by every process that uses the server
    HOME/postgres/start.lock  exclusive lock, held while the server is started
    HOME/postgres/held        exists while `ridelake up` keeps the server running

The kernel counts the users: it releases a file lock when its process ends, also after a SIGKILL. A process
that stops using the server, and then gets the exclusive lock, stops the server. A monitor process
(`keeper.py`) waits for the same lock, in case the last user was killed.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oltp.cluster import Cluster, start, stop
from oltp.programs import spawn_keeper
from ridelake.errors import UsageError

KEEPER = Path(__file__).with_name("keeper.py")


@contextmanager
def open_cluster(home: Path) -> Iterator[Cluster]:
    """Use the server in `home`. It is created and started if needed, and stopped when the last user leaves.
    Many processes can enter at the same time.

    Raises CannotConnect if it cannot be started, UsageError if the folder cannot be written."""
    cluster = Cluster(home / "postgres")
    try:
        cluster.folder.mkdir(parents=True, exist_ok=True)
        users = os.open(cluster.folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UsageError(
            f"cannot write to {home} ({error.strerror}): choose another folder with --home or RIDELAKE_HOME"
        ) from error
    try:
        fcntl.flock(users, fcntl.LOCK_SH)
        with _alone(cluster):
            if cluster.server_pid() is None:
                spawn_keeper(KEEPER, cluster.folder)  # before the start, so that every server has a monitor
            start(cluster)
        yield cluster
    finally:
        _leave(cluster, users)
        os.close(users)


def hold(home: Path) -> Cluster:
    """`ridelake up`: start the server and keep it running without users."""
    with open_cluster(home) as cluster:
        cluster.held.touch()
        return cluster


def release(home: Path) -> bool:
    """`ridelake down`: stop the server. True if it is stopped now, False if other processes still use it; it
    then stops when the last of them leaves."""
    cluster = Cluster(home / "postgres")
    if cluster.server_pid() is None:
        cluster.held.unlink(missing_ok=True)
        return True
    with open_cluster(home):
        cluster.held.unlink(missing_ok=True)
        spawn_keeper(KEEPER, cluster.folder)
    return cluster.server_pid() is None


@contextmanager
def _alone(cluster: Cluster) -> Iterator[None]:
    with (cluster.folder / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _leave(cluster: Cluster, users: int) -> None:
    """Release the lock; stop the server if no other process has it."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Either others use the server, and this returns at once; or the monitor process is stopping it.
        fcntl.flock(users, fcntl.LOCK_SH)
        return
    if not cluster.held.exists():
        stop(cluster)
