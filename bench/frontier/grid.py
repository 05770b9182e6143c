"""A set-up at all points of a grid: so many booking clients beside so many asking ones.

The points are visited in a shuffled order, so that a store that grows, or a machine that gets busy, is not
taken for interference; a round visits each once.
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
"""Booking clients, asking clients."""


@dataclass(frozen=True, slots=True)
class Effort:
    """The numbers of clients of each kind, and the seconds: before the first point, and of each point. With
    more than one round, the area of each is told as well."""

    clients: Sequence[int]
    rehearsal_seconds: float
    warm_seconds: float
    seconds: float
    rounds: int = 1

    def loads(self) -> list[Load]:
        return [load for load in product(self.clients, self.clients) if load != (0, 0)]


@dataclass(frozen=True, slots=True)
class Point:
    """What was done within the windows of one load. Latencies are of bookings, without the cancellations;
    the age is of the oldest missing change at the begin of a question, the 95th percentile."""

    booking_clients: int
    asking_clients: int
    bookings_per_second: float
    questions_per_second: float
    latency_ms_p50: float | None
    latency_ms_p99: float | None
    refused: int
    conflicts: int
    age_seconds_p95: float

    @property
    def xy(self) -> XY:
        return self.bookings_per_second, self.questions_per_second


@dataclass(frozen=True, slots=True)
class Measured:
    """A set-up's points, over all rounds; `areas` of each round; `proof` in words."""

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
        """The most bookings/s and the most questions/s."""
        return bounding_box([point.xy for point in self.points])

    @property
    def age_seconds_p95(self) -> float:
        """At its worst point."""
        return max(point.age_seconds_p95 for point in self.points)


def measure(setup: SetUp, effort: Effort, seed: int) -> Measured:
    """Raises ProofFailed if anything was answered wrongly, lost, or broken."""
    most = max(effort.clients)
    with setup.opened(most) as stage:
        with started(stage.posts) as clients:
            # All at once, uncounted: connections, plans, caches, a server's first checkpoint.
            rehearsal = clients.work(most, most, warm_seconds=0.0, seconds=effort.rehearsal_seconds)
            rounds = [_round(clients, effort, seed + number) for number in range(effort.rounds)]
        shifts = [rehearsal, *(shift for shifts in rounds for shift in shifts.values())]
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
    """Counts what ended within the windows, and divides it by their exact length."""
    seconds = sum(shift.window.seconds for shift in shifts)
    events = [event for shift in shifts for event in shift.events if shift.window.counts(event)]
    decided = [event for event in events if isinstance(event, Booked)]
    booked = [one for one in decided if one.outcome is Outcome.ASSIGNED]
    answered = [event for event in events if isinstance(event, Answered)]
    latencies_ms = [1_000 * (one.ended - one.began) for one in booked]
    ages = [0.0 if one.token is None else history.age_seconds(one.began, one.token) for one in answered]
    return Point(
        *load,
        bookings_per_second=len(booked) / seconds,
        questions_per_second=len(answered) / seconds,
        latency_ms_p50=nearest_rank(latencies_ms, 50) if latencies_ms else None,
        latency_ms_p99=nearest_rank(latencies_ms, 99) if latencies_ms else None,
        refused=len(decided) - len(booked),
        conflicts=sum(one.conflicts for one in decided),
        age_seconds_p95=nearest_rank(ages, 95) if ages else 0.0,
    )
