"""One probe: its result, and the sessions it uses."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import Connection, Cursor, Rollback
from psycopg.rows import TupleRow

from oltp.store import Store, transaction
from ridelake.errors import RidelakeError
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.source.doctor")

Status = Literal["ok", "works without", "refused", "not probed"]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`text`: for `works without`, what is missing and why; for `refused`, why, and what to do."""

    status: Status
    text: str

    def line(self) -> str:
        return f"{self.status}: {self.text}" if self.text else self.status


def ok(text: str = "") -> ProbeResult:
    return ProbeResult("ok", text)


def without(what: str, why: str) -> ProbeResult:
    return ProbeResult("works without", f"{what}, because {why}")


def refused(what: str, why: str, do: str) -> ProbeResult:
    return ProbeResult("refused", f"{what}, because {why}; {do}")


@dataclass(frozen=True, slots=True)
class PlainSession:
    """A session without the settings of ridelake, and its connection string."""

    connection: Connection[TupleRow]
    conninfo: str


@dataclass(frozen=True, slots=True)
class ProbeSessions:
    """Two sessions with the settings of ridelake."""

    store: Store
    first: Connection[TupleRow]
    second: Connection[TupleRow]


def execute(connection: Connection[TupleRow], query: str, **parameters: Any) -> Cursor[TupleRow]:
    """Execute a query of `queries.sql` by its name."""
    return connection.execute(QUERIES[query], parameters or None)


def row(connection: Connection[TupleRow], query: str, **parameters: Any) -> TupleRow:
    """The first row of its result."""
    found = execute(connection, query, **parameters).fetchone()
    if found is None:
        raise RidelakeError("the query returns no row")
    return found


@contextmanager
def rolled_back(connection: Connection[TupleRow]) -> Iterator[None]:
    """A transaction whose changes are undone."""
    with transaction(connection):
        connection.execute("SET LOCAL lock_timeout = '2s'")
        yield
        raise Rollback
