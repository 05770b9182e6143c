"""Measures a set-up at every point of a grid of booking and querying clients, and computes the frontier.

The frontier connects (0, best queries/s), the Pareto-optimal points and (best bookings/s, 0) by straight
lines.

A round visits each point once, in shuffled order, so that growth of the store or other load is not mistaken
for interference.

The verdict on one system for both kinds of work compares the best rates of each set-up with the best of all.
A rate is a count, and the standard error of a count n is √n. If the interval of a share contains the
threshold, the claim holds in part.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from bench.figure import Verdict
from bench.frontier.client_functions import History
from bench.frontier.clients import BookingEvent, Clients, QueryEvent, WindowResult, started
from bench.frontier.setups import SetUp
from bench.statistics import percentile
from ridelake.ride import Outcome

XY = tuple[float, float]

ISOLATED, PROPORTIONAL = 1.0, 0.5
# Tolerance around one half: the areas of single rounds differ by some hundredths.
TOLERANCE = 0.05


def frontier(points: Iterable[XY]) -> list[XY]:
    """The upper right edge, from the y axis to the x axis. Empty without points."""
    best: list[XY] = []
    for x, y in sorted(set(points), reverse=True):
        if not best or y > best[-1][1]:
            best.append((x, y))
    if not best:
        return []
    best.reverse()
    (_, y_max), (x_max, _) = best[0], best[-1]
    return list(dict.fromkeys([(0.0, y_max), *best, (x_max, 0.0)]))


def bounding_box(points: Sequence[XY]) -> XY:
    """The best bookings/s and the best queries/s, each at its own point."""
    return max(x for x, _ in points), max(y for _, y in points)


def area_share(points: Sequence[XY]) -> float:
    """The area under the frontier as a share of its bounding box: 0–1. 0 for a box without area."""
    x_max, y_max = bounding_box(points)
    if x_max <= 0 or y_max <= 0:
        return 0.0
    # Normalised first: the product of very small or very large numbers would lose precision.
    edge = [(x / x_max, y / y_max) for x, y in frontier(points)]
    return sum((right - left) * (high + low) / 2 for (left, high), (right, low) in pairwise(edge))


def sharing_name(share: float) -> str:
    """The name of an area: `interference`, `proportional sharing`, `partly isolated`, `near isolation`."""
    if share < PROPORTIONAL - TOLERANCE:
        return "interference"
    if share <= PROPORTIONAL + TOLERANCE:
        return "proportional sharing"
    return "near isolation" if share >= ISOLATED - TOLERANCE else "partly isolated"


Load = tuple[int, int]
"""Booking clients, querying clients."""


@dataclass(frozen=True, slots=True)
class FrontierConfig:
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
    querying_clients: int
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
class FrontierResult:
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


def measure(setup: SetUp, config: FrontierConfig, seed: int) -> FrontierResult:
    """Measure all loads of the grid on one set-up. Raises ProofFailed if an answer was wrong, a booking was
    lost, or the audit failed."""
    most = max(config.clients)
    with setup.opened(most) as prepared:
        with started(prepared.specs) as clients:
            # Warm-up with all clients: connections, plans, caches, the first checkpoint.
            warmup = clients.work(most, most, warm_seconds=0.0, seconds=config.warmup_seconds)
            rounds = [_round(clients, config, seed + number) for number in range(config.rounds)]
        window_results = [
            warmup,
            *(result for one_round in rounds for result in one_round.values()),
        ]
        booked = [
            event for result in window_results for event in result.events if isinstance(event, BookingEvent)
        ]
        proof = prepared.prove(booked)
        history = History(prepared.commits(booked))
    together = {load: [one_round[load] for one_round in rounds] for load in config.loads()}
    each = [
        [point_of(load, [result], history).xy for load, result in one_round.items()] for one_round in rounds
    ]
    return FrontierResult(
        setup.name,
        setup.single,
        [point_of(load, window_results, history) for load, window_results in together.items()],
        [area_share(points) for points in each],
        proof,
    )


def _round(clients: Clients, config: FrontierConfig, seed: int) -> dict[Load, WindowResult]:
    loads = config.loads()
    np.random.default_rng(seed).shuffle(loads)
    return {
        (booking, querying): clients.work(
            booking, querying, warm_seconds=config.warm_seconds, seconds=config.seconds
        )
        for booking, querying in loads
    }


def point_of(load: Load, window_results: Sequence[WindowResult], history: History) -> Point:
    """Count the events that ended within the windows, and divide by the length of the windows."""
    seconds = sum(result.window.seconds for result in window_results)
    events = [event for result in window_results for event in result.events if result.window.counts(event)]
    decided = [event for event in events if isinstance(event, BookingEvent)]
    booked = [one for one in decided if one.outcome is Outcome.ASSIGNED]
    answered = [event for event in events if isinstance(event, QueryEvent)]
    latencies_ms = [1_000 * (one.ended - one.began) for one in booked]
    ages = [0.0 if one.token is None else history.age_seconds(one.began, one.token) for one in answered]
    return Point(
        *load,
        seconds=seconds,
        bookings=len(booked),
        questions=len(answered),
        latency_ms_p50=percentile(latencies_ms, 50) if latencies_ms else None,
        latency_ms_p99=percentile(latencies_ms, 99) if latencies_ms else None,
        refused=len(decided) - len(booked),
        conflicts=sum(one.conflicts for one in decided),
        age_seconds_p95=percentile(ages, 95) if ages else 0.0,
    )


# The claim holds from half of the best rate of both kinds of work, and does not hold below a tenth of one.
HOLDS_SHARE_MIN = 0.5
FAILS_SHARE_MAX = 0.1
STANDARD_ERRORS = 1.96  # 95 % interval


@dataclass(frozen=True, slots=True)
class Share:
    """A rate as a share of the best rate of all set-ups, with its interval."""

    rate: float
    of_best: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SetUpShares:
    """The shares of a set-up of both kinds of work."""

    measured: FrontierResult
    bookings: Share
    questions: Share

    @property
    def low(self) -> float:
        return min(self.bookings.low, self.questions.low)

    @property
    def high(self) -> float:
        return min(self.bookings.high, self.questions.high)


def judge(measured: Sequence[FrontierResult]) -> Verdict:
    """`holds` if a single system reaches half of the best bookings/s and half of the best queries/s; `does
    not hold` if none reaches a tenth of both; considering the intervals."""
    bookings = _shares(measured, lambda point: point.bookings)
    questions = _shares(measured, lambda point: point.questions)
    shares = [SetUpShares(*one) for one in zip(measured, bookings, questions, strict=True)]
    singles = [one for one in shares if one.measured.single]
    verdict: Verdict = "holds in part"
    if max(one.low for one in singles) >= HOLDS_SHARE_MIN:
        verdict = "holds"
    elif max(one.high for one in singles) < FAILS_SHARE_MAX:
        verdict = "does not hold"
    return verdict


def _shares(measured: Sequence[FrontierResult], count: Callable[[Point], int]) -> list[Share]:
    """The share of each set-up at its best point, for one kind of work."""
    peaks = [max(one.points, key=lambda point: count(point) / point.seconds) for one in measured]
    best = max(peaks, key=lambda point: count(point) / point.seconds)
    best_rate = count(best) / best.seconds
    shares = []
    for peak in peaks:
        rate = count(peak) / peak.seconds
        error = (
            0.0
            if peak is best
            else STANDARD_ERRORS * math.sqrt(sum(1 / max(1, count(p)) for p in (peak, best)))
        )
        share = rate / best_rate if best_rate else 0.0
        shares.append(Share(rate, share, share * math.exp(-error), share * math.exp(error)))
    return shares
