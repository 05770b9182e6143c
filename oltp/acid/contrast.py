"""Run all strategies in turn, on the same server and with the same rules, and count their anomalies.

The contending clients have one connection each and start every round together. Random choices (which client
dies, how long a retry waits) are drawn from a seed. The order in which clients are served depends on the
server.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from time import perf_counter
from typing import Any, Protocol

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.acid.strategies import (
    STRATEGIES,
    Anomaly,
    Attempt,
    ClientDied,
    ContentionRules,
    SmallTablesTarget,
    StoreTarget,
    Strategy,
)
from oltp.audit import AuditReport
from oltp.scratch import ScratchDatabase
from oltp.store import open_database
from oltp.workload.runner import Client, ClientGroup, run_clients

ABORTS = ("40001", "40P01", "23505")  # serialization failure, deadlock, unique violation
BACKOFF_SECONDS = 0.002  # bound of the first wait; doubled per attempt; the wait is random below the bound
BACKOFF_SECONDS_MAX = 0.1
DEATH_SHARE = 1 / 8


@dataclass(slots=True)
class ClientCounts:
    """What one client observed. Anomalies are counted in SQL."""

    aborts: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    refused: int = 0  # no driver was available (or, in the store, the rider was busy)
    died: int = 0

    def add(self, other: "ClientCounts") -> None:
        self.aborts += other.aborts
        self.retries += other.retries
        self.refused += other.refused
        self.died += other.died


class Target(Protocol):
    """Tables, and a function to book in them."""

    @property
    def attempts_max(self) -> int: ...

    def connect(self) -> Connection[TupleRow]:
        """A connection for one client."""

    def book(self, connection: Connection[TupleRow], ask: Attempt) -> bool:
        """True if a ride was created, False if no driver was available."""

    def next_round(self) -> None:
        """End the rides and make the drivers available."""


def run_contention(
    world: Target, rules: ContentionRules, report: Callable[[int], None]
) -> tuple[ClientCounts, float]:
    """Run all rounds. Returns what the clients observed, and the sum over the rounds of the seconds from
    their start to the end of the last client. `report` is called with the number of rounds that are done."""
    all_counts = [ClientCounts() for _ in range(rules.rivals)]
    seconds = 0.0

    def client(number: int) -> Client:
        return lambda group: _play(world, rules, number, group, all_counts[number])

    def watch_rounds(group: ClientGroup) -> None:
        nonlocal seconds
        for round_number in range(rules.rounds):
            group.together()
            released = time.perf_counter()
            group.together()
            seconds += time.perf_counter() - released
            world.next_round()
            report(round_number + 1)

    run_clients([watch_rounds, *map(client, range(rules.rivals))])
    total = ClientCounts()
    for counts in all_counts:
        total.add(counts)
    return total, seconds


def _play(
    world: Target, rules: ContentionRules, number: int, group: ClientGroup, counts: ClientCounts
) -> None:
    deaths = Random(f"{rules.seed}/{number}/deaths")
    # A separate generator, because the number of waits depends on the server.
    waits = Random(f"{rules.seed}/{number}/waits")
    rider = number % rules.riders
    connection = world.connect()
    try:
        for round_number in range(rules.rounds):
            if connection.closed:
                connection = world.connect()
            ask = Attempt(
                number=round_number * rules.rivals + number,
                round=round_number,
                rider=rider,
                # The same for both clients of a rider, so that they cannot deadlock.
                pays_first=(rider + round_number) % 2 == 0,
                dies=deaths.random() < DEATH_SHARE,
                think_seconds=rules.think_ms / 1000,
            )
            group.together()
            _ask(world, connection, ask, counts, waits)
            group.together()
    finally:
        connection.close()


def _ask(
    world: Target, connection: Connection[TupleRow], ask: Attempt, counts: ClientCounts, waits: Random
) -> None:
    """Retry until the request is decided or `attempts_max` is reached."""
    for attempt in range(world.attempts_max):
        if attempt:
            counts.retries += 1
            time.sleep(waits.uniform(0, min(BACKOFF_SECONDS * 2**attempt, BACKOFF_SECONDS_MAX)))
        try:
            counts.refused += not world.book(connection, ask)
            return
        except ClientDied:
            counts.died += 1
            return
        except psycopg.Error as error:
            if error.sqlstate not in ABORTS:
                raise
            counts.aborts[error.sqlstate] += 1


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """The result of one strategy. `anomalies` and `rides` are counted in SQL, `counts` by the clients.
    `audit`: the audit of the store, None for the small tables."""

    strategy: Strategy
    anomalies: dict[Anomaly, int]
    rides: int
    counts: ClientCounts
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
            "refused": self.counts.refused,
            "clients_died": self.counts.died,
            "aborts": dict(sorted(self.counts.aborts.items())),
            "retries": self.counts.retries,
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
    show: Callable[[int, dict[str, int]], None] | None = None,
) -> StrategyResult:
    """Run one strategy. `show`: called after each round with the number of rounds that are done and the
    counts so far, which takes a query."""
    world: SmallTablesTarget | StoreTarget
    if strategy.statements is None:
        world = StoreTarget(open_database(scratch.dsn), rules)
    else:
        world = SmallTablesTarget(scratch.small, strategy, rules)

    def done(rounds: int) -> None:
        report(rounds)
        if show is not None:
            show(rounds, world.count())

    counts, seconds = run_contention(world, rules, done)
    found = world.count()
    return StrategyResult(
        strategy,
        {anomaly: found[anomaly] for anomaly in Anomaly},
        found["rides"],
        counts,
        seconds,
        world.audit() if isinstance(world, StoreTarget) else None,
    )
