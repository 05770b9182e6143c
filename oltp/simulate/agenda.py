"""What is sent next, and when; one agenda for all clients of a run.

Closed loop: a client takes the next turn when its last one is over. The clients set the pace, and a store
that falls asleep for a second is asked less in that second: its latencies look better than what people would
have met.

Open loop (`rate`): the city sets the pace. Requests are due at moments drawn beforehand, exponentially apart
(a Poisson process), whether the last one was answered or not. A turn that nobody was free to send in time is
sent late and not skipped, and its latency counts from the moment at which it was due. Anything else would
leave out exactly those who had to wait ("coordinated omission", Gil Tene, "How NOT to Measure Latency").
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
    """A request and what shall become of it; `due` on the clock of perf_counter, None: at once."""

    request: RideRequest
    fate: Fate
    due: float | None


class Agenda:
    """Ends when `rides` turns are taken or `seconds` are over; with neither, never by itself."""

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
        self._ends = math.inf  # nothing is sent that is due later
        self._next_due: float | None = None
        self._late_seconds = 0.0  # of the turn that began last
        self._lock = threading.Lock()

    def begin(self) -> None:
        """The clock runs from here."""
        self.began = perf_counter()
        if self.seconds is not None:
            self._ends = self.began + self.seconds
        self._next_due = None if self._arrivals is None else self.began + self._arrivals.gap_seconds()

    def stop(self) -> None:
        """No more turns, and nobody waits for theirs."""
        self._ends = min(self._ends, perf_counter())
        self.stopped.set()

    def take(self) -> Turn | None:
        """The next turn, for whoever asks first. None: there are no more."""
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
        """How long the turn has to wait for its moment; 0 or less: begin."""
        if turn.due is None:
            return 0.0
        early = turn.due - perf_counter()
        if early <= 0:
            self._late_seconds = -early
        return early

    def wait_for(self, turn: Turn) -> bool:
        """Until the turn's moment. False: the run was stopped meanwhile, the turn is not to be had."""
        while (seconds := self.seconds_until(turn)) > 0:
            if self.stopped.wait(seconds):
                return False
        return True

    @property
    def day(self) -> int:
        """Of those that the run plays, counted from 1."""
        return max(self.taken - 1, 0) // DAY_REQUESTS + 1

    def behind_seconds(self, now: float) -> float:
        """How late the next turn is already; if none is left, how late the last one began."""
        if self._next_due is None:
            return 0.0
        if self.rides is not None and self.taken >= self.rides:
            return self._late_seconds
        return max(0.0, min(now, self._ends) - self._next_due)

    def overdue(self, now: float) -> int:
        """Turns that were due before the end and that nobody has taken."""
        end = min(now, self._ends)
        if self._arrivals is None or self._next_due is None or self._next_due >= end:
            return 0
        count = 1 + self._arrivals.count_within(end - self._next_due)
        return count if self.rides is None else min(count, self.rides - self.taken)


class Arrivals:
    """A Poisson process: requests that come `rate` a second and know nothing of each other."""

    def __init__(self, random: np.random.Generator, rate: float) -> None:
        self._random, self._rate = random, rate
        self._gaps = self._draw_gaps()

    def gap_seconds(self) -> float:
        """From one arrival to the next."""
        return next(self._gaps)

    def count_within(self, seconds: float) -> int:
        """How many come in that time: one number, as they may be millions. Gaps that are drawn already do not
        matter, because the process has no memory."""
        return int(self._random.poisson(self._rate * seconds))

    def _draw_gaps(self) -> Iterator[float]:
        while True:
            yield from self._random.exponential(1 / self._rate, GAPS_BLOCK).tolist()
