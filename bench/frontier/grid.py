"""Measures a set-up at all points of a grid: numbers of booking clients × numbers of querying clients.

A round visits each point once, in shuffled order, so that growth of the store or other load is not mistaken
for interference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from bench.frontier.age import History, nearest_rank
from bench.frontier.clients import Answered, Booked, Clients, Shift, started
from bench.frontier.envelope import XY, area_share, bounding_box
from bench.frontier.setups import SetUp
from ridelake.ride import Outcome

Load = tuple[int, int]
"""Booking clients, querying clients."""


@dataclass(frozen=True, slots=True)
class Effort:
    """The numbers of clients of each kind, and the seconds of the warm-up and of each point. With more than
    one round, the area of each round is reported."""

    clients: Sequence[int]
    warmup_seconds: float
    warm_seconds: float
    seconds: float
    rounds: int = 1

    def loads(self) -> list[Load]:
        return [load for load in product(self.clients, self.clients) if load != (0, 0)]


@dataclass(frozen=True, slots=True)
class Point:
    """The events within the windows of one load. Latencies are of bookings, without cancellations. The age is
    that of the oldest missing change at the start of a query, 95th percentile."""

    booking_clients: int
    asking_clients: int
    seconds: float
    bookings: int
    questions: int
    latency_ms_p50: float | None
    latency_ms_p99: float | None
    refused: int
    conflicts: int
    age_seconds_p95: float

    @property
    def xy(self) -> XY:
        """Bookings/s, queries/s."""
        return self.bookings / self.seconds, self.questions / self.seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """The points of a set-up over all rounds, the area of each round, and what was checked."""

    name: str
    single: bool
    points: list[Point]
    areas: list[float]
    proof: str

    @property
    def area(self) -> float:
        return area_share([point.xy for point in self.points])

    @property
    def best(self) -> XY:
        """The best bookings/s and the best queries/s."""
        return bounding_box([point.xy for point in self.points])

    @property
    def age_seconds_p95(self) -> float:
        """The age at the worst point."""
        return max(point.age_seconds_p95 for point in self.points)


def measure(setup: SetUp, effort: Effort, seed: int) -> Measured:
    """Raises ProofFailed if an answer was wrong, a booking was lost, or the audit failed."""
    most = max(effort.clients)
    with setup.opened(most) as stage:
        with started(stage.posts) as clients:
            # Warm-up with all clients: connections, plans, caches, the first checkpoint.
            warmup = clients.work(most, most, warm_seconds=0.0, seconds=effort.warmup_seconds)
            rounds = [_round(clients, effort, seed + number) for number in range(effort.rounds)]
        shifts = [warmup, *(shift for shifts in rounds for shift in shifts.values())]
        booked = [event for shift in shifts for event in shift.events if isinstance(event, Booked)]
        proof = stage.prove(booked)
        history = History(stage.commits(booked))
    together = {load: [shifts[load] for shifts in rounds] for load in effort.loads()}
    each = [[point_of(load, [shift], history).xy for load, shift in shifts.items()] for shifts in rounds]
    return Measured(
        setup.name,
        setup.single,
        [point_of(load, shifts, history) for load, shifts in together.items()],
        [area_share(points) for points in each],
        proof,
    )


def _round(clients: Clients, effort: Effort, seed: int) -> dict[Load, Shift]:
    loads = effort.loads()
    np.random.default_rng(seed).shuffle(loads)
    return {
        (booking, asking): clients.work(
            booking, asking, warm_seconds=effort.warm_seconds, seconds=effort.seconds
        )
        for booking, asking in loads
    }


def point_of(load: Load, shifts: Sequence[Shift], history: History) -> Point:
    """Count the events that ended within the windows, and divide by the length of the windows."""
    seconds = sum(shift.window.seconds for shift in shifts)
    events = [event for shift in shifts for event in shift.events if shift.window.counts(event)]
    decided = [event for event in events if isinstance(event, Booked)]
    booked = [one for one in decided if one.outcome is Outcome.ASSIGNED]
    answered = [event for event in events if isinstance(event, Answered)]
    latencies_ms = [1_000 * (one.ended - one.began) for one in booked]
    ages = [0.0 if one.token is None else history.age_seconds(one.began, one.token) for one in answered]
    return Point(
        *load,
        seconds=seconds,
        bookings=len(booked),
        questions=len(answered),
        latency_ms_p50=nearest_rank(latencies_ms, 50) if latencies_ms else None,
        latency_ms_p99=nearest_rank(latencies_ms, 99) if latencies_ms else None,
        refused=len(decided) - len(booked),
        conflicts=sum(one.conflicts for one in decided),
        age_seconds_p95=nearest_rank(ages, 95) if ages else 0.0,
    )
