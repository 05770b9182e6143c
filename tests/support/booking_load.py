"""Clients that book, start and complete rides on one store, and record the acknowledged requests."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from oltp import booking, lifecycle
from oltp.pool import RetryPool
from oltp.retry import RetryPolicy
from oltp.store import Store
from ridelake.ride import Outcome, RideRequest, new_request_id

# The test decides how long the server is unavailable.
RETRY_WITHOUT_LIMIT = RetryPolicy(seconds_max=3_600, tries_max=1_000_000)


@dataclass(slots=True)
class BookingLoad:
    """`acknowledged`: the ids of the requests that were answered with a ride."""

    store: Store
    pool: RetryPool
    acknowledged: set[str] = field(default_factory=set)
    failures: list[BaseException] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def book(self, riders: list[tuple[int, int]], count: int | None = None) -> None:
        """Book `count` rides, or until `stop`. Riders are used by one thread only."""
        for number in itertools.count():
            if self._stop.is_set() or number == count:
                return
            rider_id, zone_id = riders[number % len(riders)]
            request = RideRequest(new_request_id(), rider_id, zone_id, zone_id, 1_000, 500)
            self.pool.call(lambda connection, rider=rider_id: lifecycle.top_up(connection, rider, 1_000))
            decision = self.pool.call(lambda connection, one=request: booking.book(connection, one))
            if decision.outcome is Outcome.ASSIGNED and (ride := decision.ride_id) is not None:
                self.acknowledged.add(str(request.request_id))
                self.pool.call(lambda connection, ride=ride: lifecycle.start(connection, ride))
                self.pool.call(lambda connection, ride=ride: lifecycle.complete(connection, ride))

    def run(self, riders: list[tuple[int, int]]) -> None:
        try:
            self.book(riders)
        except BaseException as error:
            self.failures.append(error)

    def stop(self) -> None:
        self._stop.set()


def riders_of(store: Store) -> list[tuple[int, int]]:
    """Riders, each with a zone in which a driver is available."""
    with store.connect() as connection:
        return connection.execute(
            "SELECT rider_id, (SELECT zone_id FROM drivers WHERE drivers.city_id = riders.city_id"
            " ORDER BY driver_id LIMIT 1) FROM riders ORDER BY rider_id LIMIT 8"
        ).fetchall()


@contextmanager
def booking_load(store: Store, clients: int = 2) -> Iterator[BookingLoad]:
    """Clients that book until the end of the block. At the end no ride is in progress."""
    riders = riders_of(store)
    with RetryPool(store, clients, RETRY_WITHOUT_LIMIT) as pool:
        load = BookingLoad(store, pool)
        threads = [threading.Thread(target=load.run, args=(riders[n::clients],)) for n in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield load
        finally:
            load.stop()
            for thread in threads:
                thread.join(120)
    assert load.failures == []
