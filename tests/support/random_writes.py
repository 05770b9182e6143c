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

OPERATIONS = (
    "booked", "completed", "cancelled", "refused", "request deleted", "rider added", "rider deleted",
    "rolled back", "long transaction",
)  # fmt: skip
TOO_MUCH_CENTS = 10**12
LONG_SECONDS = 0.3


@dataclass(slots=True)
class Writer:
    """A writer with one connection, and riders that no other writer uses."""

    connection: Connection[TupleRow]
    riders: list[TupleRow]
    done: Counter[str]
    ride_in_progress: int | None = None
    refused: list[object] = field(default_factory=list)
    spare_rider: TupleRow | None = None

    def turn(self, number: int) -> None:
        rider_id, zone_id = self.riders[number % len(self.riders)]
        self.connection.execute("SELECT top_up(%s, 2000)", (rider_id,))
        self._ride(rider_id, zone_id, number)
        if number % 3 == 0:
            self._refuse_and_delete_requests(rider_id, zone_id)
        if number % 4 == 0:
            self._add_and_delete_rider(number)
        if number % 5 == 0:
            self._roll_back(rider_id)
        if number % 40 == 20:
            self._write_in_long_transaction(rider_id)

    def _ride(self, rider_id: int, zone_id: int, number: int) -> None:
        ride_id = self._book(rider_id, zone_id, 1000)[1]
        if self.ride_in_progress is not None:
            self.connection.execute("SELECT complete_ride(%s, 100)", (self.ride_in_progress,))
            self.done["completed"] += 1
            self.ride_in_progress = None
        if ride_id is None:
            return
        self.done["booked"] += 1
        if number % 5 == 0:
            self.connection.execute("SELECT cancel_ride(%s)", (ride_id,))
            self.done["cancelled"] += 1
        else:
            self.connection.execute("SELECT start_ride(%s)", (ride_id,))
            self.ride_in_progress = ride_id  # completed in the next turn

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

    def _refuse_and_delete_requests(self, rider_id: int, zone_id: int) -> None:
        self._book(rider_id, zone_id, TOO_MUCH_CENTS)
        self.done["refused"] += 1
        if len(self.refused) > 3:
            self.connection.execute("DELETE FROM requests WHERE request_id = ANY (%s)", (self.refused[:2],))
            del self.refused[:2]
            self.done["request deleted"] += 1

    def _add_and_delete_rider(self, number: int) -> None:
        """Insert a rider without rides, and delete the previous one."""
        if self.spare_rider is not None:
            rider_id, account_id = self.spare_rider
            with transaction(self.connection):
                self.connection.execute("DELETE FROM riders WHERE rider_id = %s", (rider_id,))
                self.connection.execute("DELETE FROM accounts WHERE account_id = %s", (account_id,))
            self.done["rider deleted"] += 1
        self.spare_rider = self.connection.execute(
            "WITH a AS (INSERT INTO accounts (kind, balance_cents) VALUES ('rider', 0) RETURNING account_id)"
            " INSERT INTO riders (account_id, city_id, username)"
            " SELECT account_id, 1, 'spare ' || account_id FROM a RETURNING rider_id, account_id"
        ).fetchone()
        self.done["rider added"] += 1

    def _roll_back(self, rider_id: int) -> None:
        """Roll back to a savepoint; sometimes roll back the whole transaction."""
        with transaction(self.connection):
            self.connection.execute("SELECT top_up(%s, 1)", (rider_id,))
            with self.connection.transaction():
                self.connection.execute("SELECT top_up(%s, 10)", (rider_id,))
                raise Rollback
            with self.connection.transaction():
                self.connection.execute("SELECT top_up(%s, 100)", (rider_id,))
            self.done["rolled back"] += 1
            if self.done["rolled back"] % 3 == 0:
                raise Rollback

    def _write_in_long_transaction(self, rider_id: int) -> None:
        with transaction(self.connection):
            self.connection.execute("SELECT top_up(%s, 1)", (rider_id,))
            time.sleep(LONG_SECONDS)
        self.done["long transaction"] += 1


@contextmanager
def random_writers(store: Store, writers: int, pause_seconds: float = 0.02) -> Iterator[Sequence[int]]:
    """Writers that work during the block. They run in another process, because in this one they would delay
    the thread that syncs. Yields the number of times that each of `OPERATIONS` was done so far.
    `pause_seconds`: the pause of each writer between two turns."""
    stop = CONTEXT.Event()
    done = CONTEXT.Array("q", len(OPERATIONS), lock=False)
    process = CONTEXT.Process(target=_write_all, args=(store, writers, pause_seconds, stop, done))
    process.start()
    try:
        while not done[0] and process.is_alive():
            time.sleep(0.05)
        yield done
        assert process.is_alive(), "the writers have ended too early"
    finally:
        stop.set()
        process.join()
    assert process.exitcode == 0, "a writer has failed; its output has the error"


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
            done[:] = [counted[what] for what in OPERATIONS]
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
