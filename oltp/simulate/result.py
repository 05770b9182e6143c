"""The result of a simulation, as JSON and as text."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from oltp.audit import AuditReport

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, slots=True)
class Simulated:
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
    sent_again: int  # sent again after the answer, and answered the same
    topped_up: int
    refunded: int
    rested: int  # drivers that went offline and online again
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
            f"refused: {listed(self.refused)}",
            f"{self.completed:,} completed, cancelled by: {listed(self.cancelled)}",
            f"{self.sent_again:,} sent again and answered the same, {self.abandoned:,} abandoned and "
            f"{self.settled:,} settled",
            f"retries: {listed(self.retried)}",
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


def listed(counts: "Mapping[Name, int]") -> str:
    """{'expired': 2, 'rider': 1} → 2 expired, 1 rider"""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
