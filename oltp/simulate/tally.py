"""The metrics of a run, in memory that does not grow with its length.

Latencies are counted in buckets, each 2 % wider than the previous one, as in HdrHistogram: a percentile is
the middle of its bucket, with an error of at most 1 %. The maximum is exact.
"""

import math
from collections import Counter
from dataclasses import dataclass
from threading import Lock

from ridelake.ride import CancelReason, Outcome

GROWTH = math.log(1.02)
BUCKETS = 1_200  # from one microsecond to some six hours


@dataclass(frozen=True, slots=True)
class Latencies:
    """Counts by bucket, and the maximum."""

    counts: list[int]
    seconds_max: float

    def milliseconds(self, share: float) -> float:
        """The percentile: the latency that `share` of the requests did not exceed; 0 if there were none."""
        total = sum(self.counts)
        wanted = max(1, math.ceil(share * total))
        passed = 0
        for bucket, count in enumerate(self.counts):
            passed += count
            if count and passed >= wanted:
                return 1e3 * min(1e-6 * math.exp((bucket + 0.5) * GROWTH), self.seconds_max)
        return 0.0

    def since(self, earlier: "Latencies") -> "Latencies":
        """The latencies counted after the snapshot `earlier`."""
        return Latencies(
            [now - then for now, then in zip(self.counts, earlier.counts, strict=True)], self.seconds_max
        )


def bucket_of(seconds: float) -> int:
    return min(max(int(math.log(max(seconds * 1e6, 1.0)) / GROWTH), 0), BUCKETS - 1)


@dataclass(frozen=True, slots=True)
class Seen:
    """A snapshot of the metrics."""

    outcomes: Counter[Outcome]
    cancelled: dict[CancelReason, int]
    fates: Counter[str]  # abandoned, completed, refunded, rested, sent_again, settled, topped_up
    latencies: Latencies

    @property
    def requested(self) -> int:
        return self.outcomes.total()

    @property
    def assigned(self) -> int:
        return self.outcomes[Outcome.ASSIGNED]

    @property
    def refused(self) -> dict[str, int]:
        """By reason."""
        return {
            outcome.value: self.outcomes[outcome]
            for outcome in Outcome
            if outcome is not Outcome.ASSIGNED and self.outcomes[outcome]
        }


class Tally:
    """The metrics, shared by all clients. Counting takes a microsecond, so contention for the lock is low."""

    def __init__(self) -> None:
        self._outcomes: Counter[Outcome] = Counter()
        self._cancelled: Counter[CancelReason] = Counter()
        self._fates: Counter[str] = Counter()
        self._counts = [0] * BUCKETS
        self._seconds_max = 0.0
        self._lock = Lock()

    def decided(self, outcome: Outcome, seconds: float | None) -> None:
        """Count the first answer to a request, after `seconds`; None if the client did not wait."""
        with self._lock:
            self._outcomes[outcome] += 1
            if seconds is not None:
                self._counts[bucket_of(seconds)] += 1
                self._seconds_max = max(self._seconds_max, seconds)

    def cancelled(self, reason: CancelReason) -> None:
        with self._lock:
            self._cancelled[reason] += 1

    def happened(self, fate: str) -> None:
        with self._lock:
            self._fates[fate] += 1

    @property
    def requested(self) -> int:
        with self._lock:
            return self._outcomes.total()

    def seen(self) -> Seen:
        with self._lock:
            return Seen(
                self._outcomes.copy(),
                {reason: self._cancelled[reason] for reason in CancelReason if self._cancelled[reason]},
                self._fates.copy(),
                Latencies(self._counts.copy(), self._seconds_max),
            )
