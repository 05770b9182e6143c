"""A write load with all operations of the store, by many concurrent writers."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator, MutableSequence, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event

from killed_client import CONTEXT
from psycopg import Connection, Rollback
from psycopg.rows import TupleRow

from oltp.store import Store, transaction
from ridelake.ride import new_request_id

EVERYTHING = ("booked", "completed", "cancelled", "refused", "forgotten", "come", "gone", "took back", "long")
TOO_MUCH_CENTS = 10**12
LONG_SECONDS = 0.3


@dataclass(slots=True)
class Writer:
    """A writer with one connection, and riders that no other writer uses."""

    connection: Connection[TupleRow]
    riders: list[TupleRow]
    done: Counter[str]
    under_way: int | None = None
    refused: list[object] = field(default_factory=list)
    passer_by: TupleRow | None = None

    def turn(self, number: int) -> None:
        rider_id, zone_id = self.riders[number % len(self.riders)]
        self.connection.execute("SELECT top_up(%s, 2000)", (rider_id,))
        self._ride(rider_id, zone_id, number)
        if number % 3 == 0:
            self._refuse_and_forget(rider_id, zone_id)
        if number % 4 == 0:
            self._come_and_go(number)
        if number % 5 == 0:
            self._take_back(rider_id)
        if number % 40 == 20:
            self._take_long(rider_id)

    def _ride(self, rider_id: int, zone_id: int, number: int) -> None:
        ride_id = self._book(rider_id, zone_id, 1000)[1]
        if self.under_way is not None:
            self.connection.execute("SELECT complete_ride(%s, 100)", (self.under_way,))
            self.done["completed"] += 1
            self.under_way = None
        if ride_id is None:
            return
        self.done["booked"] += 1
        if number % 5 == 0:
            self.connection.execute("SELECT cancel_ride(%s)", (ride_id,))
            self.done["cancelled"] += 1
        else:
            self.connection.execute("SELECT start_ride(%s)", (ride_id,))
            self.under_way = ride_id  # until the next turn

    def _book(self, rider_id: int, zone_id: int, fare_cents: int) -> TupleRow:
        request_id = new_request_id()
        found = self.connection.execute(
            "SELECT outcome, ride_id FROM book_ride(%s, %s, %s, %s, 1000, %s)",
            (request_id, rider_id, zone_id, zone_id, fare_cents),
        ).fetchone()
        assert found is not None
        if found[1] is None:
            self.refused.append(request_id)
        return found

    def _refuse_and_forget(self, rider_id: int, zone_id: int) -> None:
        self._book(rider_id, zone_id, TOO_MUCH_CENTS)
        self.done["refused"] += 1
        if len(self.refused) > 3:
            self.connection.execute("DELETE FROM requests WHERE request_id = ANY (%s)", (self.refused[:2],))
            del self.refused[:2]
            self.done["forgotten"] += 1

    def _come_and_go(self, number: int) -> None:
        """Insert a rider; delete the previous one, who has no rides."""
        if self.passer_by is not None:
            rider_id, account_id = self.passer_by
            with transaction(self.connection):
                self.connection.execute("DELETE FROM riders WHERE rider_id = %s", (rider_id,))
                self.connection.execute("DELETE FROM accounts WHERE account_id = %s", (account_id,))
            self.done["gone"] += 1
        self.passer_by = self.connection.execute(
            "WITH a AS (INSERT INTO accounts (kind, balance_cents) VALUES ('rider', 0) RETURNING account_id)"
            " INSERT INTO riders (account_id, city_id, username)"
            " SELECT account_id, 1, 'passer-by ' || account_id FROM a RETURNING rider_id, account_id"
        ).fetchone()
        self.done["come"] += 1

    def _take_back(self, rider_id: int) -> None:
        """Roll back to a savepoint; sometimes roll back the whole transaction."""
        with transaction(self.connection):
            self.connection.execute("SELECT top_up(%s, 1)", (rider_id,))
            with self.connection.transaction():
                self.connection.execute("SELECT top_up(%s, 10)", (rider_id,))
                raise Rollback
            with self.connection.transaction():
                self.connection.execute("SELECT top_up(%s, 100)", (rider_id,))
            self.done["took back"] += 1
            if self.done["took back"] % 3 == 0:
                raise Rollback

    def _take_long(self, rider_id: int) -> None:
        with transaction(self.connection):
            self.connection.execute("SELECT top_up(%s, 1)", (rider_id,))
            time.sleep(LONG_SECONDS)
        self.done["long"] += 1


@contextmanager
def churning(store: Store, writers: int, pause_seconds: float = 0.02) -> Iterator[Sequence[int]]:
    """The writers work during the block, in another process, because here they would delay the syncing
    thread. Yields how often each of `EVERYTHING` was done so far. `pause_seconds`: of each writer between two
    operations."""
    stop = CONTEXT.Event()
    done = CONTEXT.Array("q", len(EVERYTHING), lock=False)
    process = CONTEXT.Process(target=_write_all, args=(store, writers, pause_seconds, stop, done))
    process.start()
    try:
        while not done[0] and process.is_alive():
            time.sleep(0.05)
        yield done
        assert process.is_alive(), "the writers have ended by themselves"
    finally:
        stop.set()
        process.join()
    assert process.exitcode == 0, "a writer has failed; see its output"


def _write_all(
    store: Store, writers: int, pause_seconds: float, stop: Event, done: MutableSequence[int]
) -> None:
    counted = Counter[str]()
    with ThreadPoolExecutor(writers) as pool:
        running = [
            pool.submit(_write, store, number, writers, pause_seconds, stop, counted)
            for number in range(writers)
        ]
        while not stop.wait(0.05):
            done[:] = [counted[what] for what in EVERYTHING]
            if failed := [one.exception() for one in running if one.done()]:
                stop.set()
                raise failed[0] or RuntimeError("a writer has ended")
    for one in running:
        one.result()


def _write(
    store: Store, number: int, writers: int, pause_seconds: float, stop: Event, done: Counter[str]
) -> None:
    with store.connect() as connection:
        riders = connection.execute(
            "SELECT rider_id, min(zone_id) FROM riders JOIN zones ON zones.city_id = riders.city_id"
            " WHERE rider_id %% %s = %s GROUP BY rider_id ORDER BY rider_id",
            (writers, number),
        ).fetchall()
        writer = Writer(connection, riders, done)
        for turn in itertools.count():
            if stop.is_set():
                return
            writer.turn(turn)
            time.sleep(pause_seconds)
