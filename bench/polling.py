"""Polling rules, a poller that copies a table by a rule, and a writer that changes the table.

A rule has a statement in `polling.sql` and an initial cursor. It takes its last cursor and returns new
versions of rows, deleted keys if it can detect them, and the next cursor. The rule of the lake is the
difference of two snapshots (`oltp/tracking.sql`).

The transactions are drawn from a seed; the interleaving of several writers is not deterministic.
"""

import random
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Any, Protocol

from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow

from oltp.store import Store, transaction
from oltp.workload.runner import ClientGroup
from ridelake.queries import load_queries

QUERIES = load_queries("bench", "polling.sql")


@dataclass(frozen=True, slots=True)
class Delta:
    """The result of a poll. Apply `deleted` first, then `changed`."""

    changed: list[tuple[int, str]]  # id and payload
    deleted: list[int]
    cursor: Any


class Rule(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def condition(self) -> str: ...
    @property
    def can_lose(self) -> bool:
        """Whether this rule can lose rows if transactions overlap."""

    @property
    def first(self) -> Any:
        """The initial cursor."""

    def read(self, connection: Connection[TupleRow], since: Any) -> Delta: ...


@dataclass(frozen=True, slots=True)
class HighWaterMark:
    """Rows above the highest value read so far, by one statement. The rule cannot see deletes."""

    name: str
    condition: str
    first: int | str
    can_lose: bool = True

    def read(self, connection: Connection[TupleRow], since: Any) -> Delta:
        rows = connection.execute(QUERIES[self.name], {"since": since}).fetchall()
        marks = [mark for _, _, mark in rows]
        return Delta([(id_, payload) for id_, payload, _ in rows], [], max(marks) if marks else since)


@dataclass(frozen=True, slots=True)
class SnapshotDifference:
    """Three statements in one snapshot. This snapshot is the cursor of the next poll."""

    name: str = "difference"
    condition: str = "the difference of two snapshots, and tombstones"
    first: str = "1:1:"  # a snapshot that sees no transaction
    can_lose: bool = False

    def read(self, connection: Connection[TupleRow], since: Any) -> Delta:
        with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
            token = connection.execute(QUERIES["difference_token"]).fetchall()[0][0]
            deleted = connection.execute(QUERIES["difference_deleted"], {"since": since}).fetchall()
            changed = connection.execute(QUERIES["difference"], {"since": since}).fetchall()
        return Delta([(id_, payload) for id_, payload in changed], [id_ for (id_,) in deleted], token)


SNAPSHOT_DIFFERENCE = SnapshotDifference()
RULES: tuple[Rule, ...] = (
    HighWaterMark("id", "id > last id", 0),
    HighWaterMark("updated_now", "updated_at > last updated_at, set by now()", "-infinity"),
    HighWaterMark("updated_clock", "updated_at > last updated_at, set by clock_timestamp()", "-infinity"),
    HighWaterMark("xmin", "xmin > last xmin", 0),
    HighWaterMark("watermark", "tx > last tx, and older than all open transactions", 0, can_lose=False),
    SNAPSHOT_DIFFERENCE,
)


@dataclass(slots=True)
class Copy:
    """The rows that a rule has copied, and the time when each version was first read."""

    rows: dict[int, str] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)  # payload → perf_counter()
    duplicates: int = 0  # versions that were read again

    def take(self, delta: Delta, now: float) -> None:
        for id_ in delta.deleted:
            self.rows.pop(id_, None)
        for id_, payload in delta.changed:
            self.rows[id_] = payload
            if payload in self.arrived:
                self.duplicates += 1
            else:
                self.arrived[payload] = now


@dataclass(slots=True)
class Poller:
    rule: Rule
    copy: Copy = field(default_factory=Copy)
    polls: int = 0
    _cursor: Any = field(init=False)

    def __post_init__(self) -> None:
        self._cursor = self.rule.first

    def poll_until_stopped(self, store: Store, every_seconds: float, group: ClientGroup) -> None:
        with store.connect() as connection:
            while group.sleep(every_seconds):
                self._poll(connection)

    def poll_twice(self, store: Store) -> None:
        """Poll once for the remaining rows, and once more: the second poll must return nothing new."""
        with store.connect() as connection:
            for _ in range(2):
                self._poll(connection)

    def _poll(self, connection: Connection[TupleRow]) -> None:
        delta = self.rule.read(connection, self._cursor)
        self.copy.take(delta, perf_counter())
        self._cursor = delta.cursor
        self.polls += 1


STATEMENTS_MAX = 4
LONG_SHARE = 0.02
LONG_SECONDS = (0.2, 0.8)
SAVEPOINT_SHARE = 0.15  # the share of transactions; the same share has a block with EXCEPTION
SUBTRANSACTION_ROLLBACK_SHARE = 0.2  # of savepoints and of blocks with EXCEPTION
TRANSACTION_ROLLBACK_SHARE = 0.03
RESERVED_SHARE = 0.02  # the share of transactions: an id is drawn and used by a later one
RESERVED_IDS = 5  # ids reserved before the first is used
UPDATE_SHARE = 0.3
DELETE_SHARE = 0.08
REINSERTED_SHARE = 0.2  # the share of deletes: the same transaction inserts the key again
PAUSE_SECONDS_MAX = 0.008  # between transactions, so that the pollers get CPU time


class _RolledBack(Exception):
    """Rolls back the transaction."""


@dataclass(slots=True)
class Writer:
    number: int
    seed: int
    committed: dict[str, float] = field(default_factory=dict)  # payload → perf_counter() after the COMMIT
    transactions: int = 0
    long: int = 0
    _reserved: list[int] = field(default_factory=list)
    _written: dict[int, str | None] = field(default_factory=dict)  # by this transaction; None: deleted
    _payloads: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed} {self.number}")

    def write_until_stopped(self, store: Store, group: ClientGroup) -> None:
        with store.connect() as connection:
            while group.sleep(self._random.uniform(0, PAUSE_SECONDS_MAX)):
                self._transaction(connection)

    def _transaction(self, connection: Connection[TupleRow]) -> None:
        if self._chance(RESERVED_SHARE):
            self._reserved.append(self._call(connection, "SELECT loss_reserve()") or 0)
        self._written = {}
        is_long = self._chance(LONG_SHARE)
        try:
            with transaction(connection):
                self._statements(connection, self._random.uniform(*LONG_SECONDS) if is_long else 0.0)
                if self._chance(TRANSACTION_ROLLBACK_SHARE):
                    raise _RolledBack
        except _RolledBack:
            return
        now = perf_counter()
        self.committed |= {payload: now for payload in self._written.values() if payload is not None}
        self.transactions += 1
        self.long += is_long

    def _statements(self, connection: Connection[TupleRow], held_seconds: float) -> None:
        """Run one to four statements. A long transaction pauses after the first."""
        kind = self._random.random()
        for index in range(self._random.randint(1, STATEMENTS_MAX)):
            if kind < SAVEPOINT_SHARE:
                self._with_savepoint(connection)
            elif kind < 2 * SAVEPOINT_SHARE:
                self._guarded(connection)
            else:
                self._statement(connection)
            if index == 0 and held_seconds:
                sleep(held_seconds)

    def _with_savepoint(self, connection: Connection[TupleRow]) -> None:
        before = dict(self._written)
        connection.execute("SAVEPOINT here")
        self._statement(connection)
        if self._chance(SUBTRANSACTION_ROLLBACK_SHARE):
            connection.execute("ROLLBACK TO SAVEPOINT here")
            self._written = before
        connection.execute("RELEASE SAVEPOINT here")

    def _guarded(self, connection: Connection[TupleRow]) -> None:
        payload = self._payload()
        refused = self._chance(SUBTRANSACTION_ROLLBACK_SHARE)
        self._note(self._call(connection, "SELECT loss_insert_guarded(%s, %s)", payload, refused), payload)

    def _statement(self, connection: Connection[TupleRow]) -> None:
        kind, share, payload = self._random.random(), self._random.random(), self._payload()
        if kind < UPDATE_SHARE:
            self._note(self._call(connection, "SELECT loss_update(%s, %s)", share, payload), payload)
        elif kind < UPDATE_SHARE + DELETE_SHARE:
            deleted = self._call(connection, "SELECT loss_delete(%s)", share)
            self._note(deleted, None)
            if deleted is not None and self._chance(REINSERTED_SHARE):
                self._note(self._call(connection, "SELECT loss_insert_as(%s, %s)", deleted, payload), payload)
        elif len(self._reserved) > RESERVED_IDS:
            number = self._reserved.pop(0)
            self._note(self._call(connection, "SELECT loss_insert_as(%s, %s)", number, payload), payload)
        else:
            self._note(self._call(connection, "SELECT loss_insert(%s)", payload), payload)

    def _note(self, id_: int | None, payload: str | None) -> None:
        if id_ is not None:
            self._written[id_] = payload

    def _payload(self) -> str:
        self._payloads += 1
        return f"{self.number}/{self._payloads}"

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    @staticmethod
    def _call(connection: Connection[TupleRow], statement: str, *values: object) -> int | None:
        """The id of the row that was written; None if there was none."""
        row = connection.execute(statement.encode(), values).fetchone()
        return None if row is None or row[0] is None else int(row[0])
