"""The process that looks at the store: drivers by zone, and the heap page of the newest ride, once a second.

For an embedded store it also builds and drops indexes. For a store that a DSN names it only reads, and counts
the rides that other programs book.
"""

import threading
import time
from contextlib import closing, suppress
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from bench.live.worker import WorkerChannel, one_line
from lakehouse.inspect.heap_page import RideInHeap, ride_in_heap_on
from oltp.store import Store
from ridelake.errors import CannotConnect, NotReady
from ridelake.queries import load_queries

QUERIES = load_queries("bench.live")

EVERY_SECONDS = 1.0
STAND_INDEX = "drivers_by_stand"


def work(channel: WorkerChannel, store: Store, embedded: bool) -> None:
    """Read the store until the channel is stopped; reconnect after the server was unreachable."""
    indexes = IndexSwitch(channel, store) if embedded else None
    channel.listen(indexes.obey if indexes else _ignore)
    if indexes:
        indexes.report()
    watched = StoreWatch(channel, counts_rides=not embedded)
    while not channel.stopped.is_set():
        try:
            with closing(store.connect()) as connection:
                while not channel.stopped.wait(EVERY_SECONDS):
                    watched.look(connection)
        except (CannotConnect, psycopg.OperationalError):
            channel.stopped.wait(EVERY_SECONDS)


def _ignore(name: str, arguments: dict[str, Any]) -> None:
    pass


class StoreWatch:
    """What is read once a second. `counts_rides`: also report the rate of new rides, as the part `load`."""

    def __init__(self, channel: WorkerChannel, *, counts_rides: bool) -> None:
        self._channel, self._counts_rides = channel, counts_rides
        self._newest: int | None = None
        self._counted_at = 0.0
        self._booked = 0

    def look(self, connection: Connection[TupleRow]) -> None:
        drivers = connection.execute(QUERIES["drivers_by_zone"]).fetchall()
        self._channel.report("drivers", [list(row) for row in drivers])
        newest = _value(connection, "newest_ride")
        with suppress(NotReady):  # it was deleted a moment ago
            found = ride_in_heap_on(connection, newest, may_create=False) if newest is not None else None
            self._channel.report("ride", None if found is None else _ride_part(newest, found))
        if self._counts_rides:
            self._count(connection, newest or 0)

    def _count(self, connection: Connection[TupleRow], newest: int) -> None:
        now, before = time.monotonic(), self._counted_at
        per_second = None
        if self._newest is not None:
            row = connection.execute(QUERIES["rides_since"], {"ride_id": self._newest}).fetchone()
            assert row is not None, "a count returns one row"
            count, newest = row[0], row[1] or self._newest
            self._booked += count
            per_second = round(count / max(now - before, EVERY_SECONDS / 2), 1)
        self._newest, self._counted_at = newest, now
        unknown = ("clients", "rate", "p50_ms", "p99_ms", "requested", "refused", "acknowledged", "error")
        self._channel.report(
            "load",
            dict.fromkeys(unknown)
            | {"state": "running", "batch": False, "rides_per_second": per_second, "booked": self._booked},
        )


def _value(connection: Connection[TupleRow], query: str) -> Any:
    row = connection.execute(QUERIES[query]).fetchone()
    return row[0] if row is not None else None


def _ride_part(ride_id: int, found: RideInHeap) -> dict[str, Any]:
    page = found.page
    return {
        "ride_id": ride_id,
        "block": page.block,
        "page_bytes": page.page_bytes,
        "lower": page.lower,
        "upper": page.upper,
        "tuples": [
            {"offset": one.span.offset, "bytes": one.span.bytes, "is_ride": one.number == found.ride.number}
            for one in page.tuples
        ],
        "columns": [
            {"name": name, "offset": span.offset, "bytes": span.bytes, "value": _text(found, name)}
            for name, span in found.ride.columns.items()
            if span is not None
        ],
    }


def _text(found: RideInHeap, name: str) -> str | None:
    value = found.values.get(name)
    return None if value is None else str(value)


class IndexSwitch:
    """Builds and drops two indexes of an embedded store, one at a time and without blocking the bookings.
    `ridelake live` undoes both when it ends (the query `restore`)."""

    def __init__(self, channel: WorkerChannel, store: Store) -> None:
        self._channel, self._store = channel, store
        self._busy = threading.Lock()

    def obey(self, name: str, arguments: dict[str, Any]) -> None:
        if name == "index":
            threading.Thread(
                target=self._change, args=(arguments["wanted"],), name="index", daemon=True
            ).start()

    def report(self, text: str = "", *, building: bool = False) -> None:
        """Report the part `index` of the state, as soon as the server can be reached."""
        while not self._channel.stopped.is_set():
            try:
                with closing(self._store.connect()) as connection:
                    covering = "present" if _value(connection, "covering") else "absent"
                    dropped = [] if _value(connection, "stand_index") else [STAND_INDEX]
            except (CannotConnect, psycopg.OperationalError):
                self._channel.stopped.wait(EVERY_SECONDS)
                continue
            covering = "building" if building else covering
            self._channel.report("index", {"covering": covering, "dropped": dropped, "text": text})
            return

    def _change(self, wanted: dict[str, bool]) -> None:
        with self._busy:
            text = ""
            try:
                with closing(self._store.connect()) as connection:
                    if "covering" in wanted:
                        text = self._covering(connection, wanted["covering"])
                    if STAND_INDEX in wanted:
                        text = self._stand_index(connection, wanted[STAND_INDEX])
            except (CannotConnect, psycopg.Error) as error:
                text = f"the index was not changed: {one_line(error)}; try again"
            self.report(text)

    def _covering(self, connection: Connection[TupleRow], is_wanted: bool) -> str:
        connection.execute(QUERIES["covering_drop"])
        if not is_wanted:
            return "The covering index is dropped: the average price reads the whole heap again."
        self.report("Building the covering index; bookings go on.", building=True)
        began = time.monotonic()
        connection.execute(QUERIES["covering_build"])
        connection.execute(QUERIES["covering_vacuum"])
        return (
            f"The covering index was built in {time.monotonic() - began:.1f} s. The average price reads only "
            "the index; each booking also has to write it."
        )

    def _stand_index(self, connection: Connection[TupleRow], is_wanted: bool) -> str:
        if is_wanted:
            if not _value(connection, "stand_index"):  # an interrupted build may have left an invalid index
                connection.execute(QUERIES["stand_index_drop"])
            connection.execute(QUERIES["stand_index_build"])
            return f"{STAND_INDEX} exists again: a booking looks up the drivers of its zone."
        connection.execute(QUERIES["stand_index_drop"])
        return f"{STAND_INDEX} is dropped: each booking reads all drivers to find one in its zone."
