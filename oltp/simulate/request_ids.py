"""Request ids that identify their run. They are UUIDs of version 7, as those of
`ridelake.ride.new_request_id`. Instead of random bits after the 48 bits of milliseconds, they have

    12 bits   a counter, so that ids of one millisecond differ
    30 bits   the mark of the run, drawn once: the decisions of this run can be counted exactly in the store,
              also while other clients book, and without a list of ids
    32 bits   the mark of all simulations: a ride whose client was killed may be ended by the next run. Rides
    of
              other clients are not; one id in four billion has these bits by chance
"""

import itertools
import os
import time
from collections import Counter
from datetime import timedelta
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp import moves
from ridelake.ride import Outcome

OF_A_SIMULATION = b"ride"
EXPIRE_SECONDS = 60.0  # a ride of a simulation takes milliseconds; the client of an older one is dead

# The bounds limit the scan to the newest pages of the primary key.
STORED = b"""
    SELECT outcome, count(*) FROM requests
    WHERE request_id BETWEEN %s AND %s AND substring(uuid_send(request_id) FROM 9 FOR 4) = %s
    GROUP BY outcome"""

OF_OTHERS = b"""
    SELECT count(*) FROM requests
    WHERE request_id BETWEEN %s AND %s AND substring(uuid_send(request_id) FROM 13) = %s
      AND substring(uuid_send(request_id) FROM 9 FOR 4) <> %s"""

UNDER_WAY = b"""
    SELECT count(*) FROM rides
    WHERE status IN ('assigned', 'started') AND substring(uuid_send(request_id) FROM 13) = %s"""


class RequestIds:
    """The ids of one run, shared by its clients."""

    def __init__(self) -> None:
        mark = bytearray(os.urandom(4))
        mark[0] = mark[0] & 0x3F | 0x80  # the variant of RFC 9562
        self._mark = bytes(mark)
        self._count = itertools.count()
        # A monotonic clock: no id of the run is before the first one.
        self._began_ms = time.time_ns() // 1_000_000
        self._began = time.monotonic_ns()

    def new(self) -> UUID:
        milliseconds = self._began_ms + (time.monotonic_ns() - self._began) // 1_000_000
        count = next(self._count) & 0x0FFF | 0x7000  # version 7
        return UUID(bytes=milliseconds.to_bytes(6) + count.to_bytes(2) + self._mark + OF_A_SIMULATION)

    def stored(self, connection: Connection[TupleRow]) -> Counter[Outcome]:
        """The decisions of this run that are in the store, counted by outcome."""
        rows = connection.execute(STORED, (*self._bounds(), self._mark))
        return Counter({Outcome(outcome): count for outcome, count in rows})

    def of_others(self, connection: Connection[TupleRow]) -> int:
        """The number of requests of other simulations since this run began."""
        row = connection.execute(OF_OTHERS, (*self._bounds(), OF_A_SIMULATION, self._mark)).fetchone()
        assert row is not None, "a count returns one row"
        count: int = row[0]
        return count

    def _bounds(self) -> tuple[UUID, UUID]:
        first = UUID(bytes=self._began_ms.to_bytes(6) + bytes(10))
        return first, UUID(bytes=self.new().bytes[:6] + b"\xff" * 10)


def expire(connection: Connection[TupleRow]) -> int:
    """End the rides of killed simulations: those older than EXPIRE_SECONDS by the server's clock. Returns
    their number."""
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None, "now() returns one row"
    before = row[0] - timedelta(seconds=EXPIRE_SECONDS)
    return sum(moves.expire(connection, before, before, OF_A_SIMULATION))


def under_way(connection: Connection[TupleRow]) -> int:
    """The number of active rides of simulations."""
    row = connection.execute(UNDER_WAY, (OF_A_SIMULATION,)).fetchone()
    assert row is not None, "a count returns one row"
    count: int = row[0]
    return count
