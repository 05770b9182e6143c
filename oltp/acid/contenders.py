"""The contending clients: threads with one connection each, which start every round together.

Random choices (which client dies, how long a retry waits) are drawn from a seed. The order in which clients
are served is up to the server.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.workload.runner import Client, ClientGroup, run_clients

ABORTS = ("40001", "40P01", "23505")  # serialization failure, deadlock, unique violation
BACKOFF_SECONDS = 0.002  # doubled with every attempt; the wait is a random part of it
BACKOFF_SECONDS_MAX = 0.1
DEATH_SHARE = 1 / 8


@dataclass(frozen=True, slots=True)
class ContentionRules:
    """The same rules for every strategy. Two clients share a rider, and so an account. `think_ms`: the time
    between the check and the write; it makes overlaps likely that are rare otherwise."""

    rivals: int = 16
    drivers: int = 4
    rounds: int = 25
    think_ms: float = 10.0
    fare_cents: int = 2_000
    seed: int = 1

    @property
    def riders(self) -> int:
        return (self.rivals + 1) // 2

    @property
    def start_cents(self) -> int:
        """Enough for every request: none is refused because of the balance."""
        return self.fare_cents * self.rounds * 2


class ClientDied(Exception):
    """The client has died: its connection was closed between its two writes."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of one client to book. Clients differ in which write comes first; one in eight dies between
    the two writes."""

    number: int
    round: int
    rider: int  # counted from 0
    pays_first: bool
    dies: bool
    think_seconds: float

    def think(self) -> None:
        time.sleep(self.think_seconds)

    def cross_the_middle(self, connection: Connection[Any]) -> None:
        """Between the two writes: raises ClientDied if this client is to die here."""
        if self.dies:
            connection.close()
            raise ClientDied


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
    tallies = [ClientCounts() for _ in range(rules.rivals)]
    seconds = 0.0

    def rival(number: int) -> Client:
        return lambda group: _play(world, rules, number, group, tallies[number])

    def referee(group: ClientGroup) -> None:
        nonlocal seconds
        for round_number in range(rules.rounds):
            group.together()
            released = time.perf_counter()
            group.together()
            seconds += time.perf_counter() - released
            world.next_round()
            report(round_number + 1)

    run_clients([referee, *map(rival, range(rules.rivals))])
    total = ClientCounts()
    for tally in tallies:
        total.add(tally)
    return total, seconds


def _play(
    world: Target, rules: ContentionRules, number: int, group: ClientGroup, tally: ClientCounts
) -> None:
    deaths = Random(f"{rules.seed}/{number}/deaths")
    waits = Random(f"{rules.seed}/{number}/waits")  # separate: how many are drawn depends on the server
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
            _ask(world, connection, ask, tally, waits)
            group.together()
    finally:
        connection.close()


def _ask(
    world: Target, connection: Connection[TupleRow], ask: Attempt, tally: ClientCounts, waits: Random
) -> None:
    """Try until the request is decided or the attempts are used up."""
    for attempt in range(world.attempts_max):
        if attempt:
            tally.retries += 1
            time.sleep(waits.uniform(0, min(BACKOFF_SECONDS * 2**attempt, BACKOFF_SECONDS_MAX)))
        try:
            tally.refused += not world.book(connection, ask)
            return
        except ClientDied:
            tally.died += 1
            return
        except psycopg.Error as error:
            if error.sqlstate not in ABORTS:
                raise
            tally.aborts[error.sqlstate] += 1
