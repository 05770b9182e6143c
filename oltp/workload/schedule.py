"""The schedule of a workload: which request is sent next, when, and its scenario, drawn from the seed.

The shares are guesses, because they are not published. They are high enough that a run of a thousand requests
contains each case. Declined payments have no share: the payment of a rider without money is declined.

Closed loop: a client takes the next request when its previous one is done. If the store stalls for a second,
fewer requests are sent in that second, so the latencies look better than those of independent users.

Open loop (`rate`): requests are due at times drawn in advance (a Poisson process), independent of the
answers. A request that no client is free to send in time is sent late, not skipped, and its latency counts
from the time it was due. Otherwise the requests that had to wait would be missing from the latencies
("coordinated omission", Gil Tene, "How NOT to Measure Latency").
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from time import perf_counter

import numpy as np

from oltp.ingest.seed import draw_tips
from oltp.workload.requests import DAY_REQUESTS, TimedRequest
from ridelake.ride import CancelReason, RideRequest

# Shares of the rides that are cancelled.
CANCEL_SHARES = {CancelReason.RIDER: 0.035, CancelReason.DRIVER: 0.010, CancelReason.NO_SHOW: 0.005}

# Shares of the requests.
SENT_AGAIN_SHARE = 0.010  # sent again although the answer had arrived; must get the same answer
ABANDONED_SHARE = 0.005  # the client disconnects after sending, and sends the request again later
# Share of the declined riders: they top up their account, by about twenty fares. So in a run of hours the
# number of riders without money stays about the same.
TOPPED_UP_SHARE = 0.800
TOP_UP_CENTS = 50_000
# Shares of the completed rides.
REFUNDED_SHARE = 0.005
RESTED_SHARE = 0.010  # the driver goes offline, and online again one request later, where the ride ended

BLOCK = 1_024


@dataclass(frozen=True, slots=True)
class Scenario:
    """The scenario of one request. `cancelled`: by whom, or None. For the other attributes, see the shares
    above."""

    cancelled: CancelReason | None
    tip_cents: int
    sent_again: bool
    abandoned: bool
    topped_up: bool
    refunded: bool
    went_offline: bool


def draw_scenarios(random: np.random.Generator) -> Iterator[Scenario]:
    """An infinite sequence of scenarios."""
    endings: list[CancelReason | None] = [None, *CANCEL_SHARES]
    shares = [1 - sum(CANCEL_SHARES.values()), *CANCEL_SHARES.values()]
    chances = np.array([SENT_AGAIN_SHARE, ABANDONED_SHARE, TOPPED_UP_SHARE, REFUNDED_SHARE, RESTED_SHARE])
    while True:
        ending = random.choice(len(endings), size=BLOCK, p=shares).tolist()
        tips = draw_tips(random, BLOCK).tolist()
        happens = (random.random((BLOCK, len(chances))) < chances).tolist()
        for number, tip_cents, marks in zip(ending, tips, happens, strict=True):
            yield Scenario(endings[number], tip_cents, *marks)


GAPS_BLOCK = 1_024


@dataclass(frozen=True, slots=True)
class ScheduledRequest:
    """A request and its scenario. `due`: when to send it, in perf_counter seconds; None: immediately."""

    request: RideRequest
    scenario: Scenario
    due: float | None


class ArrivalSchedule:
    """The schedule. It ends when `rides` requests are taken or `seconds` are over; with neither, when
    stopped."""

    def __init__(
        self,
        wishes: Iterator[TimedRequest],
        scenarios: Iterator[Scenario],
        arrivals: "ArrivalMode | None",
        *,
        rides: int | None,
        seconds: float | None,
    ) -> None:
        self.rides, self.seconds = rides, seconds
        self.open_loop = arrivals is not None
        self.began = perf_counter()
        self.hour = self.taken = 0
        self._wishes, self._scenarios, self._arrivals = wishes, scenarios, arrivals
        self._ends = math.inf  # perf_counter seconds; requests that are due later are not sent
        self._next_due: float | None = None
        self._late_seconds = 0.0  # how late the last request was sent
        self._lock = Lock()

    def begin(self) -> None:
        """Start the clock."""
        self.began = perf_counter()
        if self.seconds is not None:
            self._ends = self.began + self.seconds
        self._next_due = None if self._arrivals is None else self.began + self._arrivals.gap_seconds()

    def stop(self) -> None:
        """Return no more requests."""
        self._ends = min(self._ends, perf_counter())

    def take(self) -> ScheduledRequest | None:
        """The next request; None if there are no more."""
        with self._lock:
            due = self._next_due
            if self.rides is not None and self.taken >= self.rides:
                return None
            if max(perf_counter(), due or 0.0) >= self._ends:
                return None
            self.taken += 1
            wish = next(self._wishes)
            self.hour = wish.hour
            if due is not None and self._arrivals is not None:
                self._next_due = due + self._arrivals.gap_seconds()
            return ScheduledRequest(wish.request, next(self._scenarios), due)

    def seconds_until(self, turn: ScheduledRequest) -> float:
        """Seconds until the request is due; 0 or less: send it."""
        if turn.due is None:
            return 0.0
        early = turn.due - perf_counter()
        if early <= 0:
            self._late_seconds = -early
        return early

    @property
    def day(self) -> int:
        """The current day of the simulated city, counted from 1."""
        return max(self.taken - 1, 0) // DAY_REQUESTS + 1

    def behind_seconds(self, now: float) -> float:
        """How late the next request is; if none is left, how late the last one was sent."""
        if self._next_due is None:
            return 0.0
        if self.rides is not None and self.taken >= self.rides:
            return self._late_seconds
        return max(0.0, min(now, self._ends) - self._next_due)

    def overdue(self, now: float) -> int:
        """The number of requests that were due before the end and were not taken."""
        end = min(now, self._ends)
        if self._arrivals is None or self._next_due is None or self._next_due >= end:
            return 0
        count = 1 + self._arrivals.count_within(end - self._next_due)
        return count if self.rides is None else min(count, self.rides - self.taken)


class ArrivalMode:
    """A Poisson process of `rate` requests per second."""

    def __init__(self, random: np.random.Generator, rate: float) -> None:
        self._random, self._rate = random, rate
        self._gaps = self._draw_gaps()

    def gap_seconds(self) -> float:
        """The time from one arrival to the next."""
        return next(self._gaps)

    def count_within(self, seconds: float) -> int:
        """The number of arrivals in that time, drawn as one number. Gaps that were drawn in advance do not
        matter, because the process is memoryless."""
        return int(self._random.poisson(self._rate * seconds))

    def _draw_gaps(self) -> Iterator[float]:
        while True:
            yield from self._random.exponential(1 / self._rate, GAPS_BLOCK).tolist()
