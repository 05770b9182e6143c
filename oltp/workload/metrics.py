"""Counts and latencies of a workload in bounded memory, and its result.

Latencies are counted in buckets, each 2 % wider than the previous one, as in HdrHistogram: a percentile is
the middle of its bucket, with an error of at most 1 %. The maximum is exact.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any, TypeVar

from oltp.audit import AuditReport
from ridelake.ride import CancelReason, Decision, Outcome

GROWTH = math.log(1.02)
BUCKETS = 1_200  # from one microsecond to about six hours


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
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

    def since(self, earlier: "LatencyHistogram") -> "LatencyHistogram":
        """The latencies counted after the snapshot `earlier`."""
        return LatencyHistogram(
            [now - then for now, then in zip(self.counts, earlier.counts, strict=True)], self.seconds_max
        )


def bucket_of(seconds: float) -> int:
    return min(max(int(math.log(max(seconds * 1e6, 1.0)) / GROWTH), 0), BUCKETS - 1)


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """A snapshot of the metrics."""

    outcomes: Counter[Outcome]
    cancelled: dict[CancelReason, int]
    events: Counter[str]  # abandoned, completed, refunded, went_offline, sent_again, settled, topped_up
    latencies: LatencyHistogram

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


class Metrics:
    """The metrics, shared by all clients. Counting takes a microsecond, so contention for the lock is low."""

    def __init__(self) -> None:
        self._outcomes: Counter[Outcome] = Counter()
        self._cancelled: Counter[CancelReason] = Counter()
        self._events: Counter[str] = Counter()
        self._counts = [0] * BUCKETS
        self._seconds_max = 0.0
        self._lock = Lock()

    def decided(self, decision: Decision, seconds: float | None) -> None:
        """Count the first answer to a request, after `seconds`; None if the client did not wait."""
        with self._lock:
            self._outcomes[decision.outcome] += 1
            if seconds is not None:
                self._counts[bucket_of(seconds)] += 1
                self._seconds_max = max(self._seconds_max, seconds)

    def cancelled(self, reason: CancelReason) -> None:
        with self._lock:
            self._cancelled[reason] += 1

    def happened(self, event: str) -> None:
        with self._lock:
            self._events[event] += 1

    @property
    def requested(self) -> int:
        with self._lock:
            return self._outcomes.total()

    def seen(self) -> MetricsSnapshot:
        with self._lock:
            return MetricsSnapshot(
                self._outcomes.copy(),
                {reason: self._cancelled[reason] for reason in CancelReason if self._cancelled[reason]},
                self._events.copy(),
                LatencyHistogram(self._counts.copy(), self._seconds_max),
            )


Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """The result of a simulation. requested = assigned + refused; assigned = completed + cancelled.

    `latency_ms_*`: from the time a request was sent, or was due in the open loop, to its answer; accurate to
    1 %. Abandoned requests are not included."""

    requested: int
    assigned: int
    refused: dict[str, int]
    retries: int
    retried: dict[str, int]  # by SQLSTATE, or "connection lost"
    completed: int
    cancelled: dict[str, int]
    abandoned: int  # the client disconnected after sending
    settled: int  # abandoned requests that were sent again
    sent_again: int  # sent again after the answer; the second answer was the same
    topped_up: int
    refunded: int
    went_offline: int  # drivers that went offline and online again
    expired_before: int  # active rides of killed simulations that were ended before this run
    others_requests: int  # requests of other simulations during this run
    under_way_before: int  # active rides of other simulations at the start of this run
    seconds: float
    rides_per_second: float
    latency_ms_p50: float
    latency_ms_p99: float
    latency_ms_max: float
    clients: int
    mode: str  # one by one | batch
    loop: str  # closed | open
    rate: float | None  # open loop: requests per second
    behind_seconds: float | None  # open loop: how late it was at the end
    overdue: int | None  # open loop: requests that were due before the end and not sent
    batch_mean: float | None
    seed: int
    interrupted: bool  # ended early by Ctrl-C
    audit: AuditReport

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "audit": self.audit.as_dict()}

    def lines(self) -> list[str]:
        """The result as text."""
        lines = [
            f"{self.requested:,} requests, {self.clients} clients, {self._how}, {self.seconds:.1f} s, "
            f"seed {self.seed}",
            f"{self.assigned:,} assigned ({self.rides_per_second:,.0f} rides/s), "
            f"refused: {format_counts(self.refused)}",
            f"{self.completed:,} completed, cancelled by: {format_counts(self.cancelled)}",
            f"{self.sent_again:,} sent again and answered the same, {self.abandoned:,} abandoned and "
            f"{self.settled:,} settled",
            f"retries: {format_counts(self.retried)}",
            f"latency of a booking: p50 {self.latency_ms_p50:.2f} ms, p99 {self.latency_ms_p99:.2f} ms, "
            f"max {self.latency_ms_max:.1f} ms"
            if self.latency_ms_max
            else "latency of a booking: no answers",
        ]
        if self.behind_seconds is not None:
            lines.append(
                f"{self.rate:,g} requests/s were due; {self.behind_seconds:.2f} s behind at the end, "
                f"{self.overdue or 0:,} overdue and not sent"
            )
        return lines

    @property
    def _how(self) -> str:
        batch = "" if self.batch_mean is None else f" of {self.batch_mean:.1f} on average"
        return f"{self.mode}{batch}, {self.loop} loop"


def format_counts(counts: "Mapping[Name, int]") -> str:
    """{'expired': 2, 'rider': 1} → 2 expired, 1 rider"""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
