"""All strategies in turn, on the same server, under the same rules; what they left behind, counted."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from oltp.acid.real import RealWorld
from oltp.acid.rivals import Rules, Tally, compete
from oltp.acid.scratch import Scratch
from oltp.acid.small import SmallWorld
from oltp.acid.strategies import STRATEGIES, Anomaly, Strategy
from oltp.audit import AuditReport
from oltp.store import open_database


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one strategy. `anomalies` and `rides` are counted in SQL; `tally` is what the clients
    were told. `audit` is the store's own, None for the small tables."""

    strategy: Strategy
    anomalies: dict[Anomaly, int]
    rides: int
    tally: Tally
    seconds: float
    audit: AuditReport | None = None

    @property
    def broken(self) -> bool:
        return any(self.anomalies.values()) or (self.audit is not None and not self.audit.passed)

    @property
    def as_said(self) -> bool:
        """Everything that it lets through was seen on this run, and nothing else."""
        return {anomaly for anomaly, times in self.anomalies.items() if times} == self.strategy.breaks

    @property
    def mark(self) -> str:
        """✗ broken, ✓ right, ? not broken on this run, which proves nothing."""
        return "✗" if self.broken else "?" if self.strategy.breaks else "✓"

    @property
    def rides_per_second(self) -> float:
        return self.rides / self.seconds

    @property
    def verdict(self) -> str:
        """What was found, then why."""
        found = [
            f"{times:,} {WORDS[anomaly][times != 1]}" for anomaly, times in self.anomalies.items() if times
        ]
        counted = ", ".join(found) or "nothing found"
        if self.audit is not None:
            counted += f"; {self.audit.verdict}"
        missed = [WORDS[anomaly][1] for anomaly in Anomaly if self._missed(anomaly)]
        unsaid = [WORDS[anomaly][1] for anomaly in Anomaly if self._unsaid(anomaly)]
        sentences = [f"{counted}. {self.strategy.why}"]
        if missed:
            sentences.append(f"(No {' and no '.join(missed)} on this run: luck. More --rounds show them.)")
        if unsaid:
            sentences.append(f"({' and '.join(unsaid).capitalize()} should be impossible: please report it.)")
        return f"{self.mark} {self.strategy.name}: {' '.join(sentences)}"

    def _missed(self, anomaly: Anomaly) -> bool:
        return anomaly in self.strategy.breaks and not self.anomalies[anomaly]

    def _unsaid(self, anomaly: Anomaly) -> bool:
        return anomaly not in self.strategy.breaks and self.anomalies[anomaly] > 0

    def as_dict(self) -> dict[str, Any]:
        isolation = self.strategy.isolation
        return {
            "strategy": self.strategy.name,
            "isolation": isolation.name.lower() if isolation is not None else None,
            "anomalies": {str(anomaly): times for anomaly, times in self.anomalies.items()},
            "lets_through": sorted(self.strategy.breaks),
            "as_said": self.as_said,
            "rides": self.rides,
            "refused": self.tally.refused,
            "clients_died": self.tally.died,
            "aborts": dict(sorted(self.tally.aborts.items())),
            "retries": self.tally.retries,
            "seconds": round(self.seconds, 3),
            "rides_per_second": round(self.rides_per_second, 1),
            "audit": self.audit.as_dict() if self.audit is not None else None,
            "why": self.strategy.why,
        }


WORDS = {
    Anomaly.TWICE: ("driver booked twice", "drivers booked twice"),
    Anomaly.CHARGED: ("charge without a ride", "charges without a ride"),
    Anomaly.FREE: ("ride without a charge", "rides without a charge"),
    Anomaly.LOST: ("debit lost", "debits lost"),
}


@dataclass(frozen=True, slots=True)
class Contrast:
    rules: Rules
    seen: tuple[Seen, ...]
    server_version: int
    seconds: float

    @property
    def store_holds(self) -> bool:
        return not any(one.broken for one in self.seen if one.audit is not None)

    def as_dict(self) -> dict[str, Any]:
        return {
            "store_holds": self.store_holds,
            "server_version": self.server_version,
            "seconds": round(self.seconds, 3),
            "rules": {**asdict(self.rules), "riders": self.rules.riders},
            "strategies": [one.as_dict() for one in self.seen],
        }


def contrast(
    scratch: Scratch,
    rules: Rules,
    report: Callable[[int], None] = lambda rounds: None,
    strategies: Sequence[Strategy] = STRATEGIES,
) -> Contrast:
    """Let the rivals compete under each strategy. `report` is called with the number of rounds played."""
    started = perf_counter()
    seen: list[Seen] = []
    for strategy in strategies:
        seen.append(
            try_out(scratch, strategy, rules, lambda rounds: report(len(seen) * rules.rounds + rounds))
        )
    return Contrast(rules, tuple(seen), scratch.small.server_version, perf_counter() - started)


def try_out(
    scratch: Scratch, strategy: Strategy, rules: Rules, report: Callable[[int], None] = lambda rounds: None
) -> Seen:
    """One strategy."""
    world: SmallWorld | RealWorld
    if strategy.statements is None:
        world = RealWorld(open_database(scratch.dsn), rules)
    else:
        world = SmallWorld(scratch.small, strategy, rules)
    tally, seconds = compete(world, rules, report)
    counts = world.count()
    return Seen(
        strategy,
        {anomaly: counts[anomaly] for anomaly in Anomaly},
        counts["rides"],
        tally,
        seconds,
        world.audit() if isinstance(world, RealWorld) else None,
    )
