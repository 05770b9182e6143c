"""A poller: queries the table repeatedly by its rule and maintains a copy."""

from dataclasses import dataclass, field
from threading import Event
from time import perf_counter
from typing import Any

from psycopg import Connection
from psycopg.rows import TupleRow

from bench.loss.rules import Delta, Rule
from oltp.store import Store


@dataclass(slots=True)
class Copy:
    """The copy of a rule, and the time when each version was first read."""

    rows: dict[int, str] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)  # payload → perf_counter()
    doubled: int = 0  # versions that were read again

    def take(self, delta: Delta, now: float) -> None:
        for id_ in delta.deleted:
            self.rows.pop(id_, None)
        for id_, payload in delta.changed:
            self.rows[id_] = payload
            if payload in self.arrived:
                self.doubled += 1
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

    def poll_until(self, store: Store, stopped: Event, every_seconds: float) -> None:
        with store.connect() as connection:
            while not stopped.wait(every_seconds):
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
