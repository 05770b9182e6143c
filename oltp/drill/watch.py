"""The failure detector: probes the primary, and starts the failover.

A probe is a query on an open connection. The kernel closes the connections of a killed server, so the next
probe fails immediately. Two failed probes in a row, the second on a new connection, count as a failure. A
server that hangs does not close its connections; its time limit is longer, because a busy server looks the
same.
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
    """Times of perf_counter: when the failure was detected, and when the standby accepted writes."""

    noticed: float
    promoted: float


class Watchdog:
    """Probes the primary of `pair` in a thread, and fails over when it does not answer."""

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
            return answers(self._connection, HANG_SECONDS_MAX)
        except psycopg.OperationalError:
            return False


def answers(connection: Connection[TupleRow], seconds_max: float) -> bool:
    """Whether the server answers in time. Otherwise the connection is closed, because its answer may still
    arrive.

    `connection.execute` has no time limit, and a server that hangs does not check statement_timeout."""
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
