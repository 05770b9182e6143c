"""The bookings and queries of the client processes, and the age of answers.

A query at time t reads a copy with a token. Changes that committed before t and that the token has not seen
are missing. The age is t minus the commit time of the oldest one, or 0 if none is missing.

Clients cancel what they book, so completed rides do not change and queries over them have one correct answer.
Other queries are compared after the bookings (`setups`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from bench.frontier import duckdb_rows
from bench.frontier.clients import BookingEvent, ClientFunction, ClientFunctions, QueryEvent
from lakehouse.engines import Engine, open_engine
from lakehouse.engines.duckdb import DuckDB
from lakehouse.engines.postgres import Postgres
from lakehouse.table.epoch import SnapshotToken
from lakehouse.table.published import newest_epoch, pin_epoch
from olap.answer import difference
from olap.ask import answer_of
from olap.question import Question, find_question
from oltp import booking, lifecycle
from oltp.store import Store, open_database
from oltp.workload import draw_requests, riders_by_city
from ridelake.errors import ProofFailed
from ridelake.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Commit:
    """The number of a transaction, and the time when its client received the answer (monotonic seconds)."""

    tx: int
    at: float


class History:
    """The commits of all clients."""

    def __init__(self, commits: Sequence[Commit]) -> None:
        self._commits = sorted(commits, key=lambda commit: commit.at)
        self._oldest: dict[str, float] = {}  # first commit that a token has not seen, by its snapshot

    def age_seconds(self, asked_at: float, token: SnapshotToken) -> float:
        """The age of an answer over the state of `token`."""
        if token.snapshot not in self._oldest:
            unseen = (commit.at for commit in self._commits if not token.has_seen(commit.tx))
            self._oldest[token.snapshot] = next(unseen, math.inf)
        return max(0.0, asked_at - self._oldest[token.snapshot])


OVER_COMPLETED_RIDES = ("average_price", "revenue_by_city_and_month", "fare_percentiles")
NAMES = (*OVER_COMPLETED_RIDES, "busiest_pickup_zones")

Answers = Mapping[str, "pa.Table"]


def answers_of(engine: Engine) -> "dict[str, pa.Table]":
    """The answers to all questions, by name."""
    return {name: answer_of(engine, find_question(name)) for name in NAMES}


def compare(expected: Answers, found: Answers) -> None:
    """Compare the answers of two systems. Raises ProofFailed if an answer differs."""
    for name in NAMES:
        _assert_equal(find_question(name), expected[name], found[name])


class QueryClient:
    """One client. `source` returns the current engine and the token of its state."""

    def __init__(
        self, source: Callable[[], tuple[Engine, SnapshotToken | None]], expected: Answers, number: int
    ) -> None:
        self._source = source
        self._expected = expected
        self._seen: dict[str, pa.Table] = {}
        first = number % len(NAMES)  # clients start with different questions
        self._questions = cycle([find_question(name) for name in (*NAMES[first:], *NAMES[:first])])

    def __call__(self) -> QueryEvent:
        question = next(self._questions)
        began = monotonic()
        engine, token = self._source()
        answer = answer_of(engine, question)
        ended = monotonic()
        if question.name in OVER_COMPLETED_RIDES:
            self._check(question, answer)
        return QueryEvent(began, ended, token)

    def _check(self, question: Question, answer: "pa.Table") -> None:
        """Compare the first answer with the expected one, and later answers with the first."""
        seen = self._seen.setdefault(question.name, answer)
        if seen is answer or not seen.equals(answer):
            _assert_equal(question, self._expected[question.name], answer)


def _assert_equal(question: Question, expected: "pa.Table", answer: "pa.Table") -> None:
    found = difference(expected, answer, ordered=question.ordered, names=("expected", "answered"))
    if found is not None:
        raise ProofFailed(f"✗ wrong answer to {question.name}: {found}")


OLDEST_RUNNING_TRANSACTION = b"SELECT pg_snapshot_xmin(pg_current_snapshot())::text"


@dataclass(frozen=True, slots=True)
class PostgresBooking:
    """A client that books in Postgres and cancels, so that the driver and the money stay available."""

    store: Store
    number: int
    booking: int = 1
    querying: int = 0

    @contextmanager
    def opened(self) -> Iterator[ClientFunctions]:
        requests = draw_requests(np.random.default_rng(self.number), riders_by_city(self.store))
        with self.store.connect() as connection:

            def book() -> BookingEvent:
                request = next(requests)
                began = monotonic()
                decision = booking.book(connection, request)
                ended = monotonic()
                if decision.ride_id is not None:
                    lifecycle.cancel(connection, decision.ride_id)
                return BookingEvent(began, ended, request.request_id, decision.outcome)

            yield ClientFunctions(booking=[book])


@dataclass(frozen=True, slots=True)
class _OneQuerying:
    settings: Settings
    expected: Answers
    number: int
    booking: int = 0
    querying: int = 1


@dataclass(frozen=True, slots=True)
class PostgresQuerying(_OneQuerying):
    """A client that queries Postgres."""

    @contextmanager
    def opened(self) -> Iterator[ClientFunctions]:
        with open_engine("postgres", self.settings, None) as engine:
            yield ClientFunctions(querying=[QueryClient(lambda: (engine, None), self.expected, self.number)])


@contextmanager
def standby_engine(standby: Store) -> Iterator[Engine]:
    """A Postgres engine on a read-only server: no schema is installed."""
    with closing(standby.connect()) as connection:
        yield Postgres(standby, connection)


@dataclass(frozen=True, slots=True)
class StandbyQuerying(_OneQuerying):
    """A client that queries a hot standby, and reads its replay position before each query."""

    @contextmanager
    def opened(self) -> Iterator[ClientFunctions]:
        assert self.settings.dsn is not None
        standby = open_database(self.settings.dsn, install=False)
        with standby_engine(standby) as engine, standby.connect() as connection:

            def replayed() -> tuple[Engine, SnapshotToken | None]:
                # The snapshot of a standby does not list running transactions. All changes that are not older
                # than the oldest one count as missing: the age is too high by at most the length of a
                # booking.
                row = connection.execute(OLDEST_RUNNING_TRANSACTION).fetchone()
                assert row is not None
                return engine, SnapshotToken(f"{row[0]}:{row[0]}:", "", "", None, None)

            yield ClientFunctions(querying=[QueryClient(replayed, self.expected, self.number)])


@dataclass(frozen=True, slots=True)
class EpochQuerying(_OneQuerying):
    """A client that queries DuckDB over the newest epoch, which it looks up before each query."""

    @contextmanager
    def opened(self) -> Iterator[ClientFunctions]:
        with ExitStack() as held:
            engine: Engine | None = None
            token: SnapshotToken | None = None

            def newest() -> tuple[Engine, SnapshotToken | None]:
                nonlocal engine, token
                epoch = newest_epoch(self.settings.lake)
                if engine is None or epoch.token != token:
                    held.close()
                    held.enter_context(pin_epoch(self.settings.lake, epoch))
                    engine = held.enter_context(open_engine("duckdb", self.settings, epoch))
                    token = epoch.token
                return engine, token

            yield ClientFunctions(querying=[QueryClient(newest, self.expected, self.number)])


@dataclass(frozen=True, slots=True)
class DuckDBAlone:
    """All clients of a DuckDB file. DuckDB allows one process per file, so they are threads."""

    file: Path
    riders_of: dict[int, list[int]]
    expected: Answers
    booking: int
    querying: int

    @contextmanager
    def opened(self) -> Iterator[ClientFunctions]:
        with duckdb_rows.opened(self.file) as connection:
            yield ClientFunctions(
                booking=[
                    self._booking_client(duckdb_rows.session(connection), n) for n in range(self.booking)
                ],
                querying=[
                    self._query_client(DuckDB(duckdb_rows.session(connection)), n)
                    for n in range(self.querying)
                ],
            )

    def _booking_client(self, cursor: duckdb_rows.Cursor, number: int) -> ClientFunction:
        requests = draw_requests(np.random.default_rng(number), self.riders_of)
        client = duckdb_rows.Booking(cursor)
        return lambda: client.cycle(next(requests))

    def _query_client(self, engine: Engine, number: int) -> ClientFunction:
        return QueryClient(lambda: (engine, None), self.expected, number)
