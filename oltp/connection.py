"""A connection that knows whether its commits are where they must be.

A commit is on the primary's disk first, and its answer waits until the standby has it. That wait can be
broken off, by pg_cancel_backend() or an administrator's shutdown. The client is then told `INSERT 0 1` as
always, and one warning says that the standby may not have it: whoever does not listen takes it for safe.
"""

import logging
import random
import time
from types import TracebackType
from typing import Any, TypeVar

import psycopg
from psycopg import Connection, OperationalError
from psycopg.errors import Diagnostic
from psycopg.pq.abc import PGconn
from psycopg.rows import RowFactory, TupleRow, tuple_row

Self = TypeVar("Self", bound="Session")

# Errors that psycopg ignores while it closes something have a cause, which is raised and reported.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

# Where Postgres says it. Messages are translated (lc_messages); names of functions are not.
BROKEN_OFF_IN = "SyncRepWaitForLSN"

# A commit that changes nothing. A read does not wait for the standby; this does, and has when it is answered
# all that the log had before it.
CONFIRM = b"SELECT pg_logical_emit_message(true, 'ridelake', '')"

# A standby is promoted in less than the second that psycopg's pool waits before its second try.
RECONNECT_SECONDS_MAX = 1.0
RECONNECT_WAIT_SECONDS = 0.03


class Session(Connection[TupleRow]):
    """`unreplicated`: the answer to a commit came before the standby had it."""

    def __init__(self, pgconn: PGconn, row_factory: RowFactory[TupleRow] = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.unreplicated = False
        self.add_notice_handler(self._listen)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """An interrupt can leave the connection's lock taken; a closed connection does not wait for it."""
        if error is not None and not isinstance(error, Exception):
            self.close()
        super().__exit__(kind, error, trace)

    def _listen(self, notice: Diagnostic) -> None:
        if notice.source_function == BROKEN_OFF_IN:
            self.unreplicated = True


class PooledSession(Session):
    """One that a pool opens: while nobody can be reached it tries again at once, for a second."""

    @classmethod
    def connect(cls: type[Self], conninfo: str = "", **options: Any) -> Self:
        give_up = time.monotonic() + RECONNECT_SECONDS_MAX
        while True:
            try:
                return super().connect(conninfo, **options)
            except OperationalError:
                if time.monotonic() > give_up:
                    raise
            time.sleep(random.uniform(0, RECONNECT_WAIT_SECONDS))


def confirm(connection: "psycopg.Connection[TupleRow]") -> None:
    """Wait until all that is committed so far, by anybody, is where a commit must be before it is answered.

    An answer that was found, and not made, needs that: the commit behind it may be one whose wait was broken
    off. The connection is in autocommit."""
    connection.execute(CONFIRM)
