"""Two servers, and which of them leads.

A commit is answered when the standby has it on disk, as long as there is a standby to wait for. That is said
by one setting of the primary, `synchronous_standby_names`:

    protected     it names the standby: no commit is answered that the standby does not have
    unprotected   it is empty, after a failover until the other one is back: commits are on one disk only

The standby's own copy of the setting is empty, so that it can lead alone once it is promoted. Only a standby
that was awaited when its primary died may be promoted: any other may lack what was acknowledged.
"""

import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import psutil
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Literal

from oltp.connection import confirm
from oltp.drill.node import Node
from oltp.programs import spawn_keeper
from ridelake.errors import CannotConnect

KEEPER = Path(__file__).with_name("keeper.py")

DATABASE = "rides"
WAIT_SECONDS_MAX = 60.0


@dataclass(slots=True)
class Pair:
    """`synchronous`: commits are to wait for the standby. `protected`: they do, and it has all so far."""

    primary: Node
    standby: Node
    synchronous: bool
    protected: bool = False

    @property
    def dsn(self) -> str:
        """For clients: both servers; libpq goes to the one that can be written to."""
        hosts = sorted((self.primary, self.standby), key=lambda node: node.name)
        sockets = ",".join(str(node.cluster.socket_folder) for node in hosts)
        return make_conninfo(
            host=sockets,
            port="5432,5432",
            user="ridelake",
            dbname=DATABASE,
            target_session_attrs="read-write",
        )

    def fail_over(self) -> None:
        """Fence the primary, promote the standby; they change places.

        Raises CannotConnect if the standby may lack what was acknowledged."""
        if self.synchronous and not self.protected:
            raise CannotConnect(
                f"{self.standby.name} is not promoted: it was not awaited when {self.primary.name} died, and "
                f"may lack what was acknowledged. Start {self.primary.name} again, which has it"
            )
        self.primary.fence()
        self.protected = False
        with self.standby.connect() as connection:
            connection.execute("SELECT pg_promote(wait => false)")
            wait_until(lambda: _leads(connection), f"{self.standby.name} is not promoted", 0.005)
        self.primary, self.standby = self.standby, self.primary

    def rejoin(self) -> None:
        """The fenced server becomes the standby, and commits wait for it again."""
        with self.primary.connect() as connection:
            connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", (self.standby.name,))
            # A promoted server takes minutes for its first checkpoint, and a rewind goes back to the last one
            # that both have: without this one, further with each failover.
            connection.execute("CHECKPOINT")
        self.standby.rewind(self.primary)
        self.follow()

    def follow(self) -> None:
        """Start the standby; return when it has all, and is awaited if it should be."""
        self.standby.start(self.primary)
        with (
            self.standby.connect() as connection
        ):  # slots of the time when it led would keep its log for ever
            connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        with self.primary.connect() as connection:
            wait_until(lambda: self._follows(connection, "state", "streaming"), self._stays_behind)
            if self.synchronous:
                self._protect(connection)

    def degrade(self) -> None:
        """Commits wait for nobody any more: the standby is gone, and rides are worth more than its copy."""
        self.protected = False  # first: from here on it may lack something
        with self.primary.connect() as connection:
            _await_standby(connection, "")

    def _protect(self, connection: Connection[TupleRow]) -> None:
        _await_standby(connection, self.standby.name)
        wait_until(lambda: self._follows(connection, "sync_state", "sync"), self._stays_behind)
        # What was answered before anybody waited is in the log before this, and so is there after it.
        confirm(connection)
        self.protected = True

    def _follows(self, connection: Connection[TupleRow], column: str, wanted: str) -> bool:
        query = files("oltp.drill").joinpath("replication.sql").read_bytes()
        row = connection.execute(query, {"name": self.standby.name}).fetchone()
        return row is not None and row[("state", "sync_state").index(column)] == wanted

    @property
    def _stays_behind(self) -> str:
        return f"{self.standby.name} does not follow {self.primary.name}"


@contextmanager
def open_pair(*, synchronous: bool, prepare: Callable[[str], None]) -> Iterator[Pair]:
    """A primary and its standby in a folder of their own; `prepare(conninfo)` fills the primary before it is
    copied. However the block is left, no process and no file stays; if we are killed, the keeper sees to it.

    Raises CannotConnect if they cannot be started."""
    folder = Path(tempfile.mkdtemp(prefix="ridelake-drill-"))
    a, b = Node("a", folder / "a"), Node("b", folder / "b")
    lock = os.open(folder / "drill.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spawn_keeper(KEEPER, folder)
        pair = Pair(a, b, synchronous)
        a.start(b)
        a.keep_log()
        prepare(a.conninfo)
        b.copy(a)
        pair.follow()
        yield pair
    finally:
        clear(folder)
        for node in (a, b):
            shutil.rmtree(node.cluster.socket_folder, ignore_errors=True)  # it is elsewhere if TMPDIR is long
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
        if process.info["name"].startswith(("postgres", "pg_", "initdb")):
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


def _leads(connection: Connection[TupleRow]) -> bool:
    return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


def _await_standby(connection: Connection[TupleRow], name: str) -> None:
    connection.execute(SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(Literal(name)))
    connection.execute("SELECT pg_reload_conf()")
