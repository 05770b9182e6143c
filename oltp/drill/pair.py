"""Two servers, and which of them leads.

A commit is answered when the standby has it on disk, as long as there is a standby to wait for. That is said
by one setting of the primary, `synchronous_standby_names`:

    protected     it names the standby: no commit is answered that the standby does not have
    unprotected   it is empty, after a failover until the other one is back: commits are on one disk only

The standby's own copy of the setting is empty, so that it can lead alone once it is promoted. Only a standby
that was awaited when its primary died may be promoted: any other may lack what was acknowledged.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Literal

from oltp.connection import confirm
from oltp.drill.folder import kept_folder, wait_until
from oltp.drill.node import Node, follows
from ridelake.errors import CannotConnect

DATABASE = "rides"
FREE_BYTES_MIN = 300 << 20  # what three rounds take


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
        self.standby.start(self.primary.conninfo)
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
        return follows(connection, self.standby.name, column, wanted)

    @property
    def _stays_behind(self) -> str:
        return f"{self.standby.name} does not follow {self.primary.name}"


@contextmanager
def open_pair(*, synchronous: bool, prepare: Callable[[str], None]) -> Iterator[Pair]:
    """A primary and its standby in a folder of their own; `prepare(conninfo)` fills the primary before it is
    copied. However the block is left, no process and no file stays (`kept_folder`).

    Raises CannotConnect if they cannot be started, or the disk is too full for them."""
    with kept_folder() as folder:
        free = shutil.disk_usage(folder).free
        if free < FREE_BYTES_MIN:
            raise CannotConnect(
                f"two servers take {FREE_BYTES_MIN >> 20} MB, and {folder.parent} has {free >> 20}: "
                "free some, or set TMPDIR to a larger folder"
            )
        a, b = Node("a", folder / "a"), Node("b", folder / "b")
        pair = Pair(a, b, synchronous)
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
