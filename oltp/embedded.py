"""A Postgres of our own, from a wheel, for as long as somebody uses it.

    HOME/postgres/users.lock  locked, shared, by every process that uses the server
    HOME/postgres/start.lock  locked by whoever is starting it
    HOME/postgres/held        there while `ridelake up` wants the server to stay

The kernel counts the users: a file lock goes with its process, however that ends, so a killed user
cannot be forgotten. Whoever leaves and finds the lock free stops the server; a keeper process
(`keeper.py`) waits for the same lock, for the case that the last user was killed.
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
    """Use the server in `home`: made at the first call, started if nobody runs it, stopped when the
    last user leaves. Safe to enter from many processes at once.

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
                spawn_keeper(KEEPER, cluster.folder)  # first, so that no started server is without one
            start(cluster)
        yield cluster
    finally:
        _leave(cluster, users)
        os.close(users)


def hold(home: Path) -> Cluster:
    """`ridelake up`: start the server and let it stay when nobody uses it."""
    with open_cluster(home) as cluster:
        cluster.held.touch()
        return cluster


def release(home: Path) -> bool:
    """`ridelake down`: the server need not stay any more. True if it is stopped now, False if others
    still use it; it then stops when the last of them leaves."""
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
    """Give up the lock; stop the server if nobody else has it."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Either others use the server, and this returns at once; or the keeper is stopping it.
        fcntl.flock(users, fcntl.LOCK_SH)
        return
    if not cluster.held.exists():
        stop(cluster)
