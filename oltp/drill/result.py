"""The result of a drill, as JSON and as text."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from oltp.audit import AuditReport
from oltp.drill.findings import Findings

LOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Round:
    """One failover. `hung`: the failure detector declared the primary dead before the kill, because it did
    not answer in time. `noticed_seconds`: from the kill to the detection. `promoted_seconds`: from the
    detection until the standby accepts writes. `longest_gap_seconds`: between two acknowledgements to any
    client. `rejoined_seconds`: from the start of the rewind until commits wait for the server again."""

    number: int
    killed: str
    hung: bool
    promoted: str
    acknowledged: int
    noticed_seconds: float
    promoted_seconds: float
    longest_gap_seconds: float
    rejoined_seconds: float

    def line(self) -> str:
        hung = f"{self.killed} hung, and was killed"
        killed = f"{self.killed} killed, noticed after {self.noticed_seconds:.2f} s"
        return (
            f"round {self.number}: {hung if self.hung else killed}, "
            f"{self.promoted} promoted in {self.promoted_seconds:.2f} s; longest gap "
            f"{self.longest_gap_seconds:.2f} s; {self.killed} rejoined in {self.rejoined_seconds:.1f} s; "
            f"{self.acknowledged:,} acknowledged"
        )


@dataclass(frozen=True, slots=True)
class Drilled:
    rounds: tuple[Round, ...]
    findings: Findings
    audit: AuditReport
    clients: int
    seed: int
    synchronous: bool
    lag_seconds: float | None  # of an asynchronous standby when its primary is killed; None if synchronous
    seconds: float

    @property
    def longest_gap_seconds_median(self) -> float:
        return median(one.longest_gap_seconds for one in self.rounds)

    @property
    def passed(self) -> bool:
        """Nothing lost, doubled or left in doubt, and the audit passed."""
        return self.findings.nothing_lost and self.audit.passed

    @property
    def as_promised(self) -> bool:
        """As `passed`, but with an asynchronous standby commits may be lost."""
        return self.passed or (not self.synchronous and self.findings.nothing_doubled and self.audit.passed)

    def as_dict(self) -> dict[str, Any]:
        found = self.findings
        return {
            "passed": self.passed,
            "standby": "synchronous" if self.synchronous else "asynchronous",
            "lag_seconds": self.lag_seconds,
            "acknowledged": found.acknowledged,
            "rides_ended": found.rides_ended,
            "lost": len(found.lost),
            "lost_ids": found.lost,
            "ends_lost": len(found.undone),
            "doubled": len(found.doubled),
            "in_doubt": found.in_doubt,
            "settled": found.settled,
            "longest_gap_seconds_median": self.longest_gap_seconds_median,
            "longest_gap_seconds_max": max(one.longest_gap_seconds for one in self.rounds),
            "noticed_seconds_median": median(one.noticed_seconds for one in self.rounds),
            "promoted_seconds_median": median(one.promoted_seconds for one in self.rounds),
            "rounds": [asdict(one) for one in self.rounds],
            "clients": self.clients,
            "seed": self.seed,
            "seconds": self.seconds,
            "audit": self.audit.as_dict(),
        }

    def lines(self) -> list[str]:
        found = self.findings
        standby = (
            "synchronous standby"
            if self.lag_seconds is None
            else f"asynchronous standby, {self.lag_seconds:.1f} s behind"
        )
        failovers = "failover" if len(self.rounds) == 1 else "failovers"
        longest = max(one.longest_gap_seconds for one in self.rounds)
        lines = [
            f"{len(self.rounds)} {failovers}, {standby}, {self.clients} clients, {self.seconds:.0f} s, "
            f"seed {self.seed}",
            f"{found.acknowledged:,} decisions and {found.rides_ended:,} ends of rides acknowledged: "
            f"{len(found.lost):,} decisions lost, {len(found.undone):,} ends lost, "
            f"{len(found.doubled):,} doubled",
            f"{found.in_doubt:,} in doubt, {found.settled:,} of them settled by sending the id again",
            f"longest gap between acknowledgements: {self.longest_gap_seconds_median:.2f} s (median), "
            f"{longest:.2f} s (max)",
        ]
        if found.lost:
            shown = ", ".join(str(id_) for id_ in found.lost[:LOST_SHOWN])
            lines.append(f"lost: {shown}" + (" …" if len(found.lost) > LOST_SHOWN else ""))
        return lines
