"""The clients of the set-ups. Each object is pickled, sent to its process and opened there."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np

from bench.frontier import duckdb_rows
from bench.frontier.asking import Answers, Asking
from bench.frontier.clients import Booked, Seat, Seats
from lakehouse.engines import Engine, open_engine
from lakehouse.engines.duckdb import DuckDB
from lakehouse.engines.postgres import Postgres
from lakehouse.epoch import Token
from lakehouse.published import holding, newest_epoch
from oltp import booking, moves
from oltp.simulate import draw_requests, riders_by_city
from oltp.store import Store, open_database
from ridelake.settings import Settings

OLDEST_UNDER_WAY = b"SELECT pg_snapshot_xmin(pg_current_snapshot())::text"


@dataclass(frozen=True, slots=True)
class PostgresBooking:
    """A client that books in Postgres and cancels, so that the driver and the money stay available."""

    store: Store
    number: int
    booking: int = 1
    asking: int = 0

    @contextmanager
    def opened(self) -> Iterator[Seats]:
        requests = draw_requests(np.random.default_rng(self.number), riders_by_city(self.store))
        with self.store.connect() as connection:

            def book() -> Booked:
                request = next(requests)
                began = monotonic()
                decision = booking.book(connection, request)
                ended = monotonic()
                if decision.ride_id is not None:
                    moves.cancel(connection, decision.ride_id)
                return Booked(began, ended, request.request_id, decision.outcome)

            yield Seats(booking=[book])


@dataclass(frozen=True, slots=True)
class _OneAsking:
    settings: Settings
    expected: Answers
    number: int
    booking: int = 0
    asking: int = 1


@dataclass(frozen=True, slots=True)
class PostgresAsking(_OneAsking):
    """A client that queries Postgres."""

    @contextmanager
    def opened(self) -> Iterator[Seats]:
        with open_engine("postgres", self.settings, None) as engine:
            yield Seats(asking=[Asking(lambda: (engine, None), self.expected, self.number)])


@contextmanager
def standby_engine(standby: Store) -> Iterator[Engine]:
    """A Postgres engine on a read-only server: no schema is installed."""
    with closing(standby.connect()) as connection:
        yield Postgres(standby, connection)


@dataclass(frozen=True, slots=True)
class StandbyAsking(_OneAsking):
    """A client that queries a hot standby, and reads its replay position before each query."""

    @contextmanager
    def opened(self) -> Iterator[Seats]:
        assert self.settings.dsn is not None
        standby = open_database(self.settings.dsn, install=False)
        with standby_engine(standby) as engine, standby.connect() as connection:

            def replayed() -> tuple[Engine, Token | None]:
                # The snapshot of a standby does not list running transactions. All changes that are not older
                # than the oldest one count as missing: the age is too high by at most the length of a
                # booking.
                row = connection.execute(OLDEST_UNDER_WAY).fetchone()
                assert row is not None
                return engine, Token(f"{row[0]}:{row[0]}:", "", "", None, None)

            yield Seats(asking=[Asking(replayed, self.expected, self.number)])


@dataclass(frozen=True, slots=True)
class EpochAsking(_OneAsking):
    """A client that queries DuckDB over the newest epoch, which it looks up before each query."""

    @contextmanager
    def opened(self) -> Iterator[Seats]:
        with ExitStack() as held:
            engine: Engine | None = None
            token: Token | None = None

            def newest() -> tuple[Engine, Token | None]:
                nonlocal engine, token
                epoch = newest_epoch(self.settings.lake)
                if engine is None or epoch.token != token:
                    held.close()
                    held.enter_context(holding(self.settings.lake, epoch))
                    engine = held.enter_context(open_engine("duckdb", self.settings, epoch))
                    token = epoch.token
                return engine, token

            yield Seats(asking=[Asking(newest, self.expected, self.number)])


@dataclass(frozen=True, slots=True)
class DuckDBAlone:
    """All clients of a DuckDB file. DuckDB allows one process per file, so they are threads."""

    file: Path
    riders_of: dict[int, list[int]]
    expected: Answers
    booking: int
    asking: int

    @contextmanager
    def opened(self) -> Iterator[Seats]:
        with duckdb_rows.opened(self.file) as connection:
            yield Seats(
                booking=[self._booker(duckdb_rows.session(connection), n) for n in range(self.booking)],
                asking=[self._asker(DuckDB(duckdb_rows.session(connection)), n) for n in range(self.asking)],
            )

    def _booker(self, cursor: duckdb_rows.Cursor, number: int) -> Seat:
        requests = draw_requests(np.random.default_rng(number), self.riders_of)
        client = duckdb_rows.Booking(cursor)
        return lambda: client.cycle(next(requests))

    def _asker(self, engine: Engine, number: int) -> Seat:
        return Asking(lambda: (engine, None), self.expected, number)
