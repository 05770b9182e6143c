"""The scripted insert workload: clients who ask for rides at the same time, and then ride.

Closed loop: a client sends its next request when the last one is answered. Each client draws from a
generator of its own, so a seed gives every client the same requests each time; only which of two rivals
gets a driver is up to the store.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp import booking
from oltp.audit import AuditReport, audit
from oltp.city import draw_shape, draw_tips, draw_zones
from oltp.places import cities
from oltp.store import Store
from ridelake.errors import NotReady
from ridelake.ride import Outcome, RideRequest, new_request_id

CANCEL_SHARE = 0.05  # of the assigned rides: the rider thinks again
DRAW_ROWS = 256  # requests drawn at a time, so that drawing is not what is measured


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulation did. `latency_ms_*`: from the call of `book` to its answer, all outcomes."""

    requested: int
    assigned: int
    refused: dict[str, int]
    completed: int
    cancelled: int
    seconds: float
    rides_per_second: float
    latency_ms_p50: float
    latency_ms_p99: float
    latency_ms_max: float
    clients: int
    seed: int
    interrupted: bool  # by Ctrl-C, before its end
    audit: AuditReport

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "audit": self.audit.as_dict()}

    def lines(self) -> list[str]:
        """The same in four lines for people."""
        refused = ", ".join(f"{number:,} {reason}" for reason, number in self.refused.items()) or "none"
        latency_ms = f"p50 {self.latency_ms_p50:.2f} ms, p99 {self.latency_ms_p99:.2f} ms"
        return [
            f"{self.requested:,} requests, {self.clients} clients, {self.seconds:.1f} s, seed {self.seed}",
            f"{self.assigned:,} assigned ({self.rides_per_second:,.0f} rides/s), refused: {refused}",
            f"{self.completed:,} completed, {self.cancelled:,} cancelled",
            f"latency of a booking: {latency_ms}, max {self.latency_ms_max:.1f} ms",
        ]


@dataclass(slots=True)
class Tally:
    """What one client saw."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)


def simulate(
    store: Store,
    *,
    rides: int | None = None,
    seconds: float | None = None,
    clients: int = 8,
    seed: int = 1,
    report: Callable[[int], None] = lambda requests: None,
) -> Simulated:
    """Book until `rides` requests are sent or `seconds` are over, then audit. Ctrl-C ends it early, with
    all that was done counted and audited. `report` is called with the number of requests answered so far,
    about four times a second.

    Raises NotReady if the store has no riders."""
    riders_of = riders_by_city(store)
    stop = threading.Event()
    tickets = count()
    deadline = None if seconds is None else perf_counter() + seconds

    def go_on() -> bool:
        return (
            not stop.is_set()
            and (rides is None or next(tickets) < rides)
            and (deadline is None or perf_counter() < deadline)
        )

    tallies = [Tally() for _ in range(clients)]
    failures: list[BaseException] = []

    def client(number: int) -> None:
        try:
            requests = draw_requests(np.random.default_rng([seed, number]), riders_of)
            with store.connect() as connection:
                _ride(connection, requests, np.random.default_rng([seed, number, 1]), go_on, tallies[number])
        except BaseException as error:
            failures.append(error)
            stop.set()

    started = perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    interrupted = False
    try:
        _watch(threads, tallies, report)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    lasted = perf_counter() - started
    if failures:
        raise failures[0]
    with store.connect() as connection:
        return _summary(tallies, lasted, seed, interrupted, audit(connection))


def draw_requests(random: np.random.Generator, riders_of: dict[int, list[int]]) -> Iterator[RideRequest]:
    """Requests without end: a city as often as it has riders, any rider of it, zones by their demand."""
    places = [city for city in cities() if riders_of.get(city.city_id)]
    weights = np.array([len(riders_of[city.city_id]) for city in places], dtype=float)
    while True:
        city = places[int(random.choice(len(places), p=weights / weights.sum()))]
        riders = random.choice(riders_of[city.city_id], size=DRAW_ROWS)
        pickups, dropoffs = draw_zones(random, city, DRAW_ROWS), draw_zones(random, city, DRAW_ROWS)
        shape = draw_shape(random, DRAW_ROWS)
        for drawn in zip(riders, pickups, dropoffs, shape.distance_metres, shape.fare_cents, strict=True):
            rider_id, pickup, dropoff, metres, cents = (int(number) for number in drawn)
            yield RideRequest(new_request_id(), rider_id, pickup, dropoff, metres, cents)


def _ride(
    connection: Connection[TupleRow],
    requests: Iterator[RideRequest],
    random: np.random.Generator,
    go_on: Callable[[], bool],
    tally: Tally,
) -> None:
    """One client: ask; if there is a ride, cancel it or ride to the end."""
    tips = draw_tips(random, DRAW_ROWS).tolist()
    for number, request in enumerate(requests):
        if not go_on():
            return
        asked = perf_counter()
        decision = booking.book(connection, request)
        tally.latency_ms.append((perf_counter() - asked) * 1000)
        tally.outcomes[decision.outcome] += 1
        if decision.ride_id is None:
            continue
        if random.random() < CANCEL_SHARE:
            tally.fates["cancelled"] += booking.cancel(connection, decision.ride_id)
        else:
            booking.start(connection, decision.ride_id)
            tally.fates["completed"] += booking.complete(
                connection, decision.ride_id, tips[number % DRAW_ROWS]
            )


def _watch(threads: list[threading.Thread], tallies: list[Tally], report: Callable[[int], None]) -> None:
    while any(thread.is_alive() for thread in threads):
        threads[0].join(0.25)
        for thread in threads:
            if thread.is_alive():
                thread.join(0.25)
                break
        report(sum(len(tally.latency_ms) for tally in tallies))


def riders_by_city(store: Store) -> dict[int, list[int]]:
    with store.connect() as connection:
        rows = connection.execute(
            "SELECT city_id, array_agg(rider_id ORDER BY rider_id) FROM riders GROUP BY city_id"
        )
        riders_of: dict[int, list[int]] = dict(rows.fetchall())
    if not riders_of:
        raise NotReady("nobody is there to ask for a ride: run `ridelake seed` or `ridelake load FILE` first")
    return riders_of


def _summary(
    tallies: list[Tally], seconds: float, seed: int, interrupted: bool, report: AuditReport
) -> Simulated:
    outcomes: Counter[Outcome] = sum((tally.outcomes for tally in tallies), Counter())
    fates: Counter[str] = sum((tally.fates for tally in tallies), Counter())
    latency_ms = np.concatenate([tally.latency_ms for tally in tallies] or [[]])
    p50, p99, most = np.percentile(latency_ms, [50, 99, 100]).tolist() if len(latency_ms) else [0.0] * 3
    assigned = outcomes.pop(Outcome.ASSIGNED, 0)
    return Simulated(
        requested=len(latency_ms),
        assigned=assigned,
        refused={outcome.value: number for outcome, number in sorted(outcomes.items())},
        completed=fates["completed"],
        cancelled=fates["cancelled"],
        seconds=seconds,
        rides_per_second=assigned / seconds,
        latency_ms_p50=p50,
        latency_ms_p99=p99,
        latency_ms_max=most,
        clients=len(tallies),
        seed=seed,
        interrupted=interrupted,
        audit=report,
    )
