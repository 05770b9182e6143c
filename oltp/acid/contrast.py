"""Run all strategies in turn, on the same server and with the same rules, and count their anomalies."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from oltp.acid.contenders import ClientCounts, ContentionRules, run_contention
from oltp.acid.strategies import STRATEGIES, Anomaly, SmallTablesTarget, StoreTarget, Strategy
from oltp.audit import AuditReport
from oltp.scratch import ScratchDatabase
from oltp.store import open_database


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """The result of one strategy. `anomalies` and `rides` are counted in SQL, `tally` by the clients.
    `audit`: the audit of the store, None for the small tables."""

    strategy: Strategy
    anomalies: dict[Anomaly, int]
    rides: int
    tally: ClientCounts
    seconds: float
    audit: AuditReport | None = None

    @property
    def broken(self) -> bool:
        return any(self.anomalies.values()) or (self.audit is not None and not self.audit.passed)

    @property
    def as_expected(self) -> bool:
        """Whether this run showed all anomalies that the strategy allows, and no others."""
        return {anomaly for anomaly, times in self.anomalies.items() if times} == self.strategy.breaks

    @property
    def mark(self) -> str:
        """✗ anomalies found; ✓ none found and none allowed; ? none found on this run, although some are
        allowed."""
        return "✗" if self.broken else "?" if self.strategy.breaks else "✓"

    @property
    def rides_per_second(self) -> float:
        return self.rides / self.seconds

    @property
    def verdict(self) -> str:
        """The anomalies that were found, and why."""
        found = [
            f"{times:,} {WORDS[anomaly][times != 1]}" for anomaly, times in self.anomalies.items() if times
        ]
        counted = ", ".join(found) or "no anomaly"
        if self.audit is not None:
            counted += f"; {self.audit.verdict}"
        missed = [WORDS[anomaly][1] for anomaly in Anomaly if self._missed(anomaly)]
        unexpected = [WORDS[anomaly][1] for anomaly in Anomaly if self._unexpected(anomaly)]
        sentences = [f"{counted}. {self.strategy.why}"]
        if missed:
            sentences.append(
                f"(No {' and no '.join(missed)} in this run, although possible; use more --rounds to see "
                "them.)"
            )
        if unexpected:
            names = " and ".join(unexpected).capitalize()
            sentences.append(f"({names} should be impossible; please report this output.)")
        return f"{self.mark} {self.strategy.name}: {' '.join(sentences)}"

    def _missed(self, anomaly: Anomaly) -> bool:
        return anomaly in self.strategy.breaks and not self.anomalies[anomaly]

    def _unexpected(self, anomaly: Anomaly) -> bool:
        return anomaly not in self.strategy.breaks and self.anomalies[anomaly] > 0

    def as_dict(self) -> dict[str, Any]:
        isolation = self.strategy.isolation
        return {
            "strategy": self.strategy.name,
            "isolation": isolation.name.lower() if isolation is not None else None,
            "anomalies": {str(anomaly): times for anomaly, times in self.anomalies.items()},
            "lets_through": sorted(self.strategy.breaks),
            "as_said": self.as_expected,
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
class ContrastResult:
    rules: ContentionRules
    seen: tuple[StrategyResult, ...]
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


def run_strategies(
    scratch: ScratchDatabase,
    rules: ContentionRules,
    report: Callable[[int], None] = lambda rounds: None,
    strategies: Sequence[Strategy] = STRATEGIES,
) -> ContrastResult:
    """Run the clients under each strategy. `report` is called with the number of rounds that are done."""
    started = perf_counter()
    seen: list[StrategyResult] = []
    for strategy in strategies:
        seen.append(
            run_strategy(scratch, strategy, rules, lambda rounds: report(len(seen) * rules.rounds + rounds))
        )
    return ContrastResult(rules, tuple(seen), scratch.small.server_version, perf_counter() - started)


def run_strategy(
    scratch: ScratchDatabase,
    strategy: Strategy,
    rules: ContentionRules,
    report: Callable[[int], None] = lambda rounds: None,
) -> StrategyResult:
    """Run one strategy."""
    world: SmallTablesTarget | StoreTarget
    if strategy.statements is None:
        world = StoreTarget(open_database(scratch.dsn), rules)
    else:
        world = SmallTablesTarget(scratch.small, strategy, rules)
    tally, seconds = run_contention(world, rules, report)
    counts = world.count()
    return StrategyResult(
        strategy,
        {anomaly: counts[anomaly] for anomaly in Anomaly},
        counts["rides"],
        tally,
        seconds,
        world.audit() if isinstance(world, StoreTarget) else None,
    )
