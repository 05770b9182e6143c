"""A connection pool for many threads, with retries after a failure of the server.

    pool.call(lambda connection: booking.book(connection, request))

A call borrows a connection for one operation. If the server stops, crashes or refuses connections, the call
is retried (`retry`) until the server is back, another server is primary, or the retry policy ends. Broken
connections are replaced.

With a synchronous standby a retry needs care. The first attempt may have committed while its wait for the
standby was cancelled. The second attempt finds the work done and returns immediately, because a read does not
wait for the standby. So after an attempt with an unknown outcome, the result is returned only after another
commit, later in the WAL, is acknowledged.
"""

from collections.abc import Callable
from typing import Self, TypeVar

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from oltp.connection import PooledStoreSession, wait_until_durable
from oltp.retry import (
    RETRY_POLICY,
    STANDBY,
    RetryCounts,
    RetryPolicy,
    outcome_unknown_after,
    retry,
    retry_reason,
)
from oltp.store import Store
from ridelake.errors import NotReplicated

Answer = TypeVar("Answer")


class RetryPool:
    """`size` connections in autocommit: when a call returns, its changes are durable, including on the
    standby if the server has a synchronous one."""

    def __init__(self, store: Store, size: int, policy: RetryPolicy = RETRY_POLICY) -> None:
        self.retries = RetryCounts()
        self._policy = policy
        self._pool: ConnectionPool[PooledStoreSession] = ConnectionPool(
            store.conninfo,
            connection_class=PooledStoreSession,
            kwargs={"autocommit": True},
            min_size=size,
            max_size=size,
            timeout=2.0,  # seconds; then `retry` decides
            reconnect_timeout=1.0,
            open=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        self._pool.close(timeout=5.0)

    def resize(self, size: int) -> None:
        """Change the number of connections."""
        self._pool.resize(size, size)

    def call(self, operation: Callable[[Connection[TupleRow]], Answer]) -> Answer:
        """Call `operation(connection)` and retry after temporary errors. `operation` must be idempotent.

        Raises CannotConnect if the server cannot be reached in time, and other errors of `operation`."""
        outcome_unknown = False

        def call_and_confirm(connection: Connection[TupleRow]) -> Answer:
            answer = operation(connection)
            wait_until_durable(connection)
            return answer

        def once() -> Answer:
            nonlocal outcome_unknown
            try:
                return self._once(call_and_confirm if outcome_unknown else operation)
            except Exception as error:
                outcome_unknown = outcome_unknown or outcome_unknown_after(error)
                raise

        return retry(once, self._policy, self.retries)

    def _once(self, operation: Callable[[Connection[TupleRow]], Answer]) -> Answer:
        connection = self._pool.getconn()
        try:
            connection.unreplicated = False
            answer = operation(connection)
            if connection.unreplicated:
                raise NotReplicated(
                    "the commit returned before the standby had it, so a failover could lose it; "
                    "send the request again with the same id"
                )
            return answer
        except Exception as error:
            if retry_reason(error) == STANDBY:
                connection.close()
            if connection.closed:
                self._pool.check()  # the other connections are broken too: replace all of them now
            raise
        except BaseException:
            connection.close()  # Ctrl-C may have left its lock held, and the next user would wait
            raise
        finally:
            self._pool.putconn(connection)
