"""Who notices that the primary is gone, and what is done then.

A probe is a query on a connection that stays open: of a killed server the kernel closes it, and the next
probe fails at once. Two in a row, the second on a new connection, are believed. A server that hangs closes
nothing; it is given longer, since a busy one looks the same.
"""

import select
import threading
from dataclasses import dataclass
from time import monotonic, perf_counter

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.drill.pair import Pair

PROBE_EVERY_SECONDS = 0.05
HANG_SECONDS_MAX = 3.0
MISSES = 2


@dataclass(frozen=True, slots=True)
class Promotion:
    """Moments on the clock of perf_counter: when the primary was believed to be gone, and when the standby
    could be written to in its place."""

    noticed: float
    promoted: float


class Watchdog:
    """Watches the primary of `pair` from a thread of its own, and fails over when it is gone."""

    def __init__(self, pair: Pair) -> None:
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
        """The promotion, when it is done; None if it is not in time. Raises what made it impossible."""
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
            return answers(self._connection, HANG_SECONDS_MAX)
        except psycopg.OperationalError:
            return False


def answers(connection: Connection[TupleRow], seconds_max: float) -> bool:
    """Whether the server answers in time. A connection that did not is closed: its answer may still come.

    Not by `connection.execute`, which waits for ever, nor by statement_timeout, which a server that hangs
    does not look at."""
    server, until = connection.pgconn, monotonic() + seconds_max
    server.send_query(b"SELECT 1")
    server.flush()
    while server.is_busy():
        if not select.select([server.socket], [], [], max(0.0, until - monotonic()))[0]:
            connection.close()
            return False
        server.consume_input()
    alive = True
    while (result := server.get_result()) is not None:
        alive = alive and result.status == psycopg.pq.ExecStatus.TUPLES_OK
    if not alive:
        connection.close()
    return alive
