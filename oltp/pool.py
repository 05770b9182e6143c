"""Connections for many threads that outlive the server they lead to.

    pool.call(lambda connection: booking.book(connection, request))

A call borrows a connection for one verb. If the server stops, crashes or refuses, the call is repeated
(`retry`) until the server is back, or another one leads in its place, or patience is over; connections that
died with it are thrown away.

Where a standby is awaited there is a trap in that. The first try may have committed, and its wait for the
standby was broken off; the second finds the work done and is answered at once, as a read waits for nobody.
So after a doubtful try an answer counts once a commit of our own, behind it in the log, has been confirmed.
"""

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from oltp.connection import PooledSession, confirm
from oltp.retry import PATIENCE, STANDBY, Patience, Retries, leaves_doubt, persist, retryable
from oltp.store import Store
from ridelake.errors import Unreplicated

Answer = TypeVar("Answer")


class Pool:
    """`size` connections in autocommit: when a verb has answered, what it did is durable, also on the standby
    if the server awaits one."""

    def __init__(self, store: Store, size: int, patience: Patience = PATIENCE) -> None:
        self.retries = Retries()
        self._patience = patience
        self._pool: ConnectionPool[PooledSession] = ConnectionPool(
            store.conninfo,
            connection_class=PooledSession,
            kwargs={"autocommit": True},
            min_size=size,
            max_size=size,
            timeout=2.0,  # then `retry` decides
            reconnect_timeout=1.0,
            open=True,
        )

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._pool.close(timeout=5.0)

    def call(self, verb: Callable[[Connection[TupleRow]], Answer]) -> Answer:
        """`verb(connection)`, repeated while that makes sense. The verb must be one that may be repeated.

        Raises CannotConnect if the server does not come back, and what else the verb raises."""
        doubtful = False

        def settle(connection: Connection[TupleRow]) -> Answer:
            answer = verb(connection)
            confirm(connection)
            return answer

        def once() -> Answer:
            nonlocal doubtful
            try:
                return self._once(settle if doubtful else verb)
            except Exception as error:
                doubtful = doubtful or leaves_doubt(error)
                raise

        return persist(once, self._patience, self.retries)

    def _once(self, verb: Callable[[Connection[TupleRow]], Answer]) -> Answer:
        connection = self._pool.getconn()
        try:
            connection.unreplicated = False
            answer = verb(connection)
            if connection.unreplicated:
                raise Unreplicated(
                    "the commit was answered before the standby had it: it is neither safe nor undone, "
                    "so ask again with the same id"
                )
            return answer
        except Exception as error:
            if retryable(error) == STANDBY:
                connection.close()
            if connection.closed:
                self._pool.check()  # its neighbours died too: replace them now, not one failure at a time
            raise
        except BaseException:
            connection.close()  # Ctrl-C may have left psycopg's lock taken, which the next one would wait for
            raise
        finally:
            self._pool.putconn(connection)
