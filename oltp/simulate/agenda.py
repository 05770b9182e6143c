"""The schedule of a run: the next request and its time, shared by all clients.

Closed loop: a client takes the next request when its previous one is done. If the store stalls for a second,
fewer requests are sent in that second, so the latencies look better than those of independent users.

Open loop (`rate`): requests are due at times drawn in advance (a Poisson process), independent of the
answers. A request that no client is free to send in time is sent late, not skipped, and its latency counts
from the time it was due. Otherwise the requests that had to wait would be missing from the latencies
("coordinated omission", Gil Tene, "How NOT to Measure Latency").
"""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from oltp.simulate.demand import DAY_REQUESTS, Wish
from oltp.simulate.fates import Fate
from ridelake.ride import RideRequest

GAPS_BLOCK = 1_024


@dataclass(frozen=True, slots=True)
class Turn:
    """A request and its course. `due`: when to send it, a time of perf_counter; None: immediately."""

    request: RideRequest
    fate: Fate
    due: float | None


class Agenda:
    """The schedule. It ends when `rides` requests are taken or `seconds` are over; with neither, when
    stopped."""

    def __init__(
        self,
        wishes: Iterator[Wish],
        fates: Iterator[Fate],
        arrivals: "Arrivals | None",
        *,
        rides: int | None,
        seconds: float | None,
    ) -> None:
        self.rides, self.seconds = rides, seconds
        self.open_loop = arrivals is not None
        self.began = perf_counter()
        self.hour = self.taken = 0
        self.stopped = threading.Event()
        self._wishes, self._fates, self._arrivals = wishes, fates, arrivals
        self._ends = math.inf  # requests that are due later are not sent
        self._next_due: float | None = None
        self._late_seconds = 0.0  # of the request that was sent last
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start the clock."""
        self.began = perf_counter()
        if self.seconds is not None:
            self._ends = self.began + self.seconds
        self._next_due = None if self._arrivals is None else self.began + self._arrivals.gap_seconds()

    def stop(self) -> None:
        """Hand out no more requests, and wake the clients that wait for the due time of theirs."""
        self._ends = min(self._ends, perf_counter())
        self.stopped.set()

    def take(self) -> Turn | None:
        """The next request; None if there are no more."""
        with self._lock:
            due = self._next_due
            if (
                self.stopped.is_set()
                or (self.rides is not None and self.taken >= self.rides)
                or max(perf_counter(), due or 0.0) >= self._ends
            ):
                return None
            self.taken += 1
            wish = next(self._wishes)
            self.hour = wish.hour
            if due is not None and self._arrivals is not None:
                self._next_due = due + self._arrivals.gap_seconds()
            return Turn(wish.request, next(self._fates), due)

    def seconds_until(self, turn: Turn) -> float:
        """Seconds until the request is due; 0 or less: send it."""
        if turn.due is None:
            return 0.0
        early = turn.due - perf_counter()
        if early <= 0:
            self._late_seconds = -early
        return early

    def wait_for(self, turn: Turn) -> bool:
        """Wait until the request is due. False: the run was stopped; do not send it."""
        while (seconds := self.seconds_until(turn)) > 0:
            if self.stopped.wait(seconds):
                return False
        return True

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


class Arrivals:
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
