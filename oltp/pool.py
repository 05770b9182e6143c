"""Connections for many threads that outlive the server they lead to.

    pool.call(lambda connection: booking.book(connection, request))

A call borrows a connection for one verb. If the server stops, crashes or refuses, the call is repeated
(`retry`) until the server is back or patience is over; connections that died with it are thrown away.
"""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from oltp.retry import PATIENCE, Patience, Retries, persist
from oltp.store import Store

Answer = TypeVar("Answer")

logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())  # we tell of retries, once and in words


class Pool:
    """`size` connections in autocommit: when a verb has answered, what it did is durable."""

    def __init__(self, store: Store, size: int, patience: Patience = PATIENCE) -> None:
        self.retries = Retries()
        self._patience = patience
        self._pool: ConnectionPool[Connection[TupleRow]] = ConnectionPool(
            store.conninfo,
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
        return persist(lambda: self._once(verb), self._patience, self.retries)

    def _once(self, verb: Callable[[Connection[TupleRow]], Answer]) -> Answer:
        connection = self._pool.getconn()
        try:
            return verb(connection)
        except Exception:
            if connection.broken:
                self._pool.check()  # its neighbours died too: replace them now, not one failure at a time
            raise
        except BaseException:
            connection.close()  # Ctrl-C may have left psycopg's lock taken, which the next one would wait for
            raise
        finally:
            self._pool.putconn(connection)
