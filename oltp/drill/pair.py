"""A primary, its standby, and the watchdog that promotes the standby.

A commit returns when the standby has flushed it, as long as `synchronous_standby_names` of the primary names
the standby:

    protected     it names the standby: no commit returns before the standby has it
    unprotected   it is empty (from a failover until the other server is back): commits are on one disk only

The setting of the standby is empty, so that it does not wait for another server after its promotion. Only a
standby that was synchronous when its primary failed may be promoted: any other may lack acknowledged commits.

A probe is a query on an open connection. The kernel closes the connections of a killed server, so the next
probe fails immediately. Two failed probes in a row, the second on a new connection, count as a failure. A
server that hangs does not close its connections; its time limit is longer, because a busy server looks the
same.

`open_standby`: commits do not wait for it; its lag is the replay lag. Replay conflicts with a query on rows
that the primary has vacuumed, or with a query that holds a lock.
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import perf_counter

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Literal

from oltp.cluster.node import ServerNode, follows, server_folder, wait_until
from oltp.cluster.process import end_all_in
from oltp.connection import value_in_time, wait_until_durable
from oltp.store import Store
from ridelake.errors import CannotConnect
from ridelake.queries import load_queries

DATABASE = "rides"
FREE_BYTES_MIN = 300 << 20  # the space that three rounds need


@dataclass(slots=True)
class ServerPair:
    """`synchronous`: commits should wait for the standby. `protected`: they do, and it has all earlier
    ones."""

    primary: ServerNode
    standby: ServerNode
    synchronous: bool
    protected: bool = False

    @property
    def dsn(self) -> str:
        """The DSN for clients: lists both servers; libpq connects to the one that accepts writes."""
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
        """Fence the primary, promote the standby, and exchange their roles.

        Raises CannotConnect if the standby may lack acknowledged commits."""
        if self.synchronous and not self.protected:
            raise CannotConnect(
                f"cannot promote {self.standby.name}: it was not synchronous when {self.primary.name} failed "
                f"and may lack acknowledged commits; start {self.primary.name} again"
            )
        self.primary.fence()
        self.protected = False
        with self.standby.connect() as connection:
            connection.execute("SELECT pg_promote(wait => false)")
            wait_until(lambda: _leads(connection), f"{self.standby.name} was not promoted", 0.005)
        self.primary, self.standby = self.standby, self.primary

    def rejoin(self) -> None:
        """The fenced server becomes the standby, and commits wait for it again."""
        with self.primary.connect() as connection:
            connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", (self.standby.name,))
            # pg_rewind goes back to the last common checkpoint. A promoted server may take minutes until its
            # first one; without this checkpoint, each failover would rewind further.
            connection.execute("CHECKPOINT")
        self.standby.rewind(self.primary)
        self.follow()

    def follow(self) -> None:
        """Start the standby; return when it has caught up, and is synchronous if it should be."""
        self.standby.start(self.primary.conninfo)
        with self.standby.connect() as connection:  # slots from when it was primary would retain WAL forever
            connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        with self.primary.connect() as connection:
            wait_until(lambda: self._follows(connection, "state", "streaming"), self._stays_behind)
            if self.synchronous:
                self._protect(connection)

    def degrade(self) -> None:
        """Stop waiting for the failed standby, so that commits return again."""
        self.protected = False  # first: from now on the standby may lack commits
        with self.primary.connect() as connection:
            _await_standby(connection, "")

    def _protect(self, connection: Connection[TupleRow]) -> None:
        _await_standby(connection, self.standby.name)
        wait_until(lambda: self._follows(connection, "sync_state", "sync"), self._stays_behind)
        # Commits that returned without waiting are earlier in the WAL; after this the standby has them.
        wait_until_durable(connection)
        self.protected = True

    def _follows(self, connection: Connection[TupleRow], column: str, wanted: str) -> bool:
        return follows(connection, self.standby.name, column, wanted)

    @property
    def _stays_behind(self) -> str:
        return f"{self.standby.name} did not catch up with {self.primary.name}"


@contextmanager
def open_pair(*, synchronous: bool, prepare: Callable[[str], None]) -> Iterator[ServerPair]:
    """A primary and its standby in a temporary folder. `prepare(conninfo)` fills the primary before it is
    copied. When the block is left, all processes are ended and the folder is deleted (`server_folder`).

    Raises CannotConnect if they cannot be started, or the disk is too full for them."""
    with server_folder() as folder:
        free = shutil.disk_usage(folder).free
        if free < FREE_BYTES_MIN:
            raise CannotConnect(
                f"two servers need {FREE_BYTES_MIN >> 20} MB, and {folder.parent} has {free >> 20} MB free: "
                "free some space, or set TMPDIR to a folder on a larger disk"
            )
        a, b = ServerNode("a", folder / "a"), ServerNode("b", folder / "b")
        pair = ServerPair(a, b, synchronous)
        a.start(b.conninfo)
        a.keep_log()
        prepare(a.conninfo)
        b.copy(a.conninfo)
        pair.follow()
        yield pair


def _leads(connection: Connection[TupleRow]) -> bool:
    return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


def _await_standby(connection: Connection[TupleRow], name: str) -> None:
    connection.execute(SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(Literal(name)))
    connection.execute("SELECT pg_reload_conf()")


PROBE_EVERY_SECONDS = 0.05
HANG_SECONDS_MAX = 3.0
MISSES = 2


@dataclass(frozen=True, slots=True)
class Promotion:
    """Times of perf_counter: when the failure was detected, and when the standby accepted writes."""

    noticed: float
    promoted: float


class Watchdog:
    """Probes the primary of `pair` in a thread, and fails over when it does not answer."""

    def __init__(self, pair: ServerPair) -> None:
        self._pair = pair
        self._connection: Connection[TupleRow] | None = None
        self._closing = threading.Event()
        self._promoted = threading.Event()
        self._promotion: Promotion | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def wait(self, seconds: float) -> Promotion | None:
        """Wait for the promotion; None if there is none in time. Raises the error of a failed failover."""
        self._promoted.wait(seconds)
        if self._failure is not None:
            raise self._failure
        return self._promotion

    def _run(self) -> None:
        misses = 0
        try:
            while not self._closing.wait(PROBE_EVERY_SECONDS if not misses else 0.0):
                misses = 0 if self._answers() else misses + 1
                if misses == MISSES:
                    noticed = perf_counter()
                    self._pair.fail_over()
                    self._promotion = Promotion(noticed, perf_counter())
                    break
        except BaseException as error:
            self._failure = error
        self._promoted.set()

    def _answers(self) -> bool:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._pair.primary.connect()
            if value_in_time(self._connection, b"SELECT 1", HANG_SECONDS_MAX) is not None:
                return True
            self._connection.close()
        except psycopg.OperationalError:
            pass
        return False


QUERIES = load_queries("oltp.drill")

SHUTDOWN_SECONDS_MAX = 20.0

# No query is cancelled. With feedback the primary keeps the rows that queries here can see, so its tables may
# grow. For locks the replay waits, and the standby falls behind.
SETTINGS = {
    "hot_standby_feedback": "on",
    "max_standby_streaming_delay": "-1",
    "wal_retrieve_retry_interval": "100ms",
}


@contextmanager
def open_standby(store: Store) -> Iterator[str]:
    """Run a standby of the store's server during the block; yields a connection string to the same database
    on it. At the end the standby and its replication slot are removed.

    Raises CannotConnect if it cannot be created, or does not follow."""
    given = conninfo_to_dict(store.conninfo)
    kept = {name: given[name] for name in ("host", "port", "user", "password") if name in given}
    primary = make_conninfo("", dbname="postgres", **kept)
    with server_folder() as folder:
        # The folder's name is unique; names of slots have no hyphens.
        node = ServerNode(folder.name.replace("-", "_"), folder / "standby")
        try:
            node.copy(primary)
            node.start(primary, SETTINGS)
            with psycopg.connect(primary, autocommit=True) as connection:
                wait_until(
                    lambda: follows(connection, node.name, "state", "streaming"),
                    "the standby did not start streaming",
                )
            yield node.cluster.conninfo(str(given["dbname"]))
        finally:
            end_all_in(node.folder, SHUTDOWN_SECONDS_MAX)
            _drop_slot(primary, node.name)


def catch_up(primary: Store, standby: Store) -> None:
    """Wait until the standby has replayed everything committed so far. Raises CannotConnect."""
    with primary.connect() as connection:
        written = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
    with standby.connect() as connection:
        wait_until(
            lambda: (
                connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written).fetchone()
                == (True,)
            ),
            "the standby did not catch up",
        )


def _drop_slot(primary: str, name: str) -> None:
    """Drop the slot, which would retain WAL forever. Wait while it is in use: the WAL sender notices the end
    of the standby a moment later."""
    query = QUERIES["slot"]
    with suppress(psycopg.OperationalError), psycopg.connect(primary, autocommit=True) as connection:
        wait_until(lambda: not connection.execute(query, {"name": name}).fetchall(), "the slot stays in use")
