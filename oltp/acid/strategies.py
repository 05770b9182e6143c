"""Nine ways to book a driver, and the targets they run against. The statements are in the .sql files here."""

import time
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow, dict_row

from oltp import booking
from oltp.audit import AuditReport, audit
from oltp.store import Store, transaction
from ridelake.queries import load_queries, load_script
from ridelake.ride import RideRequest, new_request_id

QUERIES = load_queries("oltp.acid")


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

    def die_between_writes(self, connection: Connection[Any]) -> None:
        """Between the two writes: raises ClientDied if this client is to die here."""
        if self.dies:
            connection.close()
            raise ClientDied


class Anomaly(StrEnum):
    """The anomalies that are counted afterwards; the names of the columns of `queries.sql`."""

    TWICE = "drivers_booked_twice"  # at the same time
    CHARGED = "charges_without_ride"
    FREE = "rides_without_charge"
    LOST = "lost_debits"  # balance ≠ start − charges


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to book. `statements`: the name of its file; None for the store, which has its own.
    `isolation` None: no transaction, each statement commits by itself. `breaks`: the anomalies that it
    allows."""

    name: str
    why: str
    statements: str | None
    isolation: IsolationLevel | None = IsolationLevel.READ_COMMITTED
    attempts_max: int = 1
    added: str | None = None  # a file with additional schema
    breaks: frozenset[Anomaly] = frozenset()


@dataclass(frozen=True, slots=True)
class StrategyStatements:
    """A strategy's statements, by purpose."""

    check: tuple[str, ...]
    charge: tuple[str, ...]
    assign: tuple[str, ...]


def read_statements(name: str) -> StrategyStatements:
    """The three parts of a strategy in `strategies.sql`, each as single statements."""
    texts = load_queries("oltp.acid", "strategies.sql")
    named = {
        part: tuple(statement.strip() for statement in texts[f"{name}_{part}"].split(";\n"))
        for part in ("check", "charge", "assign")
    }
    return StrategyStatements(**named)


STRATEGIES = (
    Strategy(
        "no_transaction",
        "Each statement commits by itself. A client that dies between two writes has paid without a ride, or "
        "has a ride without paying; no order of the writes is safe. Two clients that check at the same time "
        "book the same driver.",
        "check_then_act",
        isolation=None,
        breaks=frozenset(Anomaly),
    ),
    Strategy(
        "check_then_act, read committed",
        "Each booking is atomic. But all clients check before the first one has written: two clients that "
        "see "
        "the same available driver both book it, and the second UPDATE of a balance overwrites the first.",
        "check_then_act",
        breaks=frozenset({Anomaly.TWICE, Anomaly.LOST}),
    ),
    Strategy(
        "check_then_act, repeatable read",
        "The second UPDATE of the same balance fails (40001). But two rides of one driver are two new rows. "
        "Neither transaction overwrites the other, so snapshot isolation detects no conflict. This is write "
        "skew.",
        "check_then_act",
        IsolationLevel.REPEATABLE_READ,
        breaks=frozenset({Anomaly.TWICE}),
    ),
    Strategy(
        "check_then_act, serializable",
        "Postgres tracks what each transaction has read, and aborts (40001) a transaction whose reads are no "
        "longer valid. Correct, but an aborted client gets no ride, although drivers are available.",
        "check_then_act",
        IsolationLevel.SERIALIZABLE,
    ),
    Strategy(
        "for_update",
        "The check locks the rider and the driver until the commit. Correct, but all clients wait for a "
        "lock on the first available driver.",
        "for_update",
    ),
    Strategy(
        "skip_locked",
        "A driver that another client has locked is skipped. Correct, and clients do not wait for each "
        "other's drivers.",
        "skip_locked",
    ),
    Strategy(
        "constraint_only",
        "A unique index rejects a second active ride of a driver (23505). It does not cover the balances, "
        "which are still overwritten.",
        "check_then_act",
        added="constraint_only",
        breaks=frozenset({Anomaly.LOST}),
    ),
    Strategy(
        "serializable_with_retry",
        "As serializable, and an aborted client retries after a short random wait, at most 20 times. "
        "Correct, and no statement had to change; the cost is the aborted work.",
        "check_then_act",
        IsolationLevel.SERIALIZABLE,
        attempts_max=20,
    ),
    Strategy(
        "store",
        "The functions that `ridelake simulate` calls. A lock on the account serializes the requests of a "
        "rider, SKIP LOCKED selects a driver, and unique indexes enforce both again. Check and write are one "
        "round trip; the client waits before the commit instead, with its locks held. No retries are needed.",
        None,
    ),
)


class _Target:
    """Tables with riders and drivers. `prefix`: of the names of its queries."""

    prefix = ""
    attempts_max = 1

    def __init__(self, store: Store, rules: ContentionRules) -> None:
        self._store, self._rules = store, rules
        self._people = {"drivers": rules.drivers, "riders": rules.riders, "start_cents": rules.start_cents}

    def connect(self) -> Connection[TupleRow]:
        return self._store.connect()

    def next_round(self) -> None:
        with closing(self.connect()) as connection:
            connection.execute(QUERIES[f"{self.prefix}next_round"])

    def count(self) -> dict[str, int]:
        """The counts of `queries.sql`."""
        with closing(self.connect()) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            fare = {"fare_cents": self._rules.fare_cents}
            counts = cursor.execute(QUERIES[f"{self.prefix}anomalies"], fare).fetchone()
            assert counts is not None, "a row of counts"
            return counts


class SmallTablesTarget(_Target):
    """The small tables, recreated for every strategy."""

    def __init__(self, small: Store, strategy: Strategy, rules: ContentionRules) -> None:
        super().__init__(small, rules)
        assert strategy.statements is not None, "StoreTarget is for the store"
        self._isolation = strategy.isolation
        self._statements = read_statements(strategy.statements)
        self.attempts_max = strategy.attempts_max
        with closing(self.connect()) as connection, transaction(connection):
            connection.execute(load_script("oltp.acid", "schema.sql"))
            if strategy.added is not None:
                connection.execute(QUERIES[strategy.added])
            connection.execute(QUERIES["people"], self._people)

    def book(self, connection: Connection[TupleRow], ask: Attempt) -> bool:
        if self._isolation is None:
            return self._steps(connection, ask)
        with transaction(connection, self._isolation):
            return self._steps(connection, ask)

    def _steps(self, connection: Connection[TupleRow], ask: Attempt) -> bool:
        """Check, wait, write. The writes use the columns that the check returns, by name."""
        known: dict[str, Any] = {
            "request_id": ask.number,
            "round": ask.round,
            "rider_id": ask.rider + 1,
            "fare_cents": self._rules.fare_cents,
        }
        cursor = connection.cursor(row_factory=dict_row)
        for statement in self._statements.check:
            found = cursor.execute(statement.encode(), known).fetchone()
            if found is None:
                return False
            known |= found
        ask.think()
        writes = [self._statements.charge, self._statements.assign]
        first, second = writes if ask.pays_first else reversed(writes)
        for statement in first:
            cursor.execute(statement.encode(), known)
        ask.die_between_writes(connection)
        for statement in second:
            cursor.execute(statement.encode(), known)
        return True


DISTANCE_METRES = 1_500


class StoreTarget(_Target):
    """Check and write are one call here, without think time in between. For a fair comparison, each booking
    waits as long before it commits, with its locks held; a client that dies does so after that."""

    prefix = "real_"

    def __init__(self, store: Store, rules: ContentionRules) -> None:
        super().__init__(store, rules)
        with closing(self.connect()) as connection:
            made = connection.execute(QUERIES["real_people"], self._people).fetchall()
        self._riders = [rider_id for rider_id, _ in made]
        self._zone_id: int = made[0][1]

    def book(self, connection: Connection[TupleRow], ask: Attempt) -> bool:
        rider_id, fare_cents = self._riders[ask.rider], self._rules.fare_cents
        way = (self._zone_id, self._zone_id, DISTANCE_METRES)
        request = RideRequest(new_request_id(), rider_id, *way, fare_cents)
        with transaction(connection):
            decision = booking.book(connection, request)
            if decision.ride_id is None:
                return False
            ask.think()
            ask.die_between_writes(connection)
        return True

    def audit(self) -> AuditReport:
        with closing(self.connect()) as connection:
            return audit(connection)
