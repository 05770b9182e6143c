"""The set-ups. Each starts from the same rows and is checked after its clients have ended.

A figure is recorded only if the audit holds, all acknowledged bookings are stored, and another engine returns
the same answers.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from bench.env import SYNC_EVERY_SECONDS, syncing
from bench.frontier import client_functions, duckdb_rows
from bench.frontier.client_functions import (
    Commit,
    DuckDBAlone,
    EpochQuerying,
    PostgresBooking,
    PostgresQuerying,
    StandbyQuerying,
    standby_engine,
)
from bench.frontier.clients import BookingEvent, ClientSpec
from lakehouse.capture.publish import publish_snapshot
from lakehouse.engines import open_engine
from lakehouse.engines.duckdb import DuckDB
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from olap.question import find_question
from oltp.audit import audit
from oltp.drill.pair import catch_up, open_standby
from oltp.store import Store, open_database
from oltp.workload import riders_by_city
from ridelake.errors import ProofFailed
from ridelake.queries import load_queries
from ridelake.settings import LakeAddress, Settings

QUERIES = load_queries("bench.frontier")

AUDITED = "the audit holds and all acknowledged bookings are stored"


@dataclass(frozen=True, slots=True)
class PreparedSetUp:
    """A set-up that is ready for its clients. `prove` is called after they have ended: it raises ProofFailed
    or returns what was checked. `commits`: the commits that a copy may miss; empty if queries read the
    store."""

    specs: Sequence[ClientSpec]
    prove: Callable[[Sequence[BookingEvent]], str]
    commits: Callable[[Sequence[BookingEvent]], list[Commit]] = lambda booked: []


@dataclass(frozen=True, slots=True)
class SetUp:
    """`single`: one system does both. `opened(clients)` prepares this many clients of each kind."""

    name: str
    single: bool
    opened: Callable[[int], AbstractContextManager[PreparedSetUp]]


def postgres_alone(settings: Settings, store: Store) -> SetUp:
    @contextmanager
    def opened(clients: int) -> Iterator[PreparedSetUp]:
        with copied(settings, store) as (ours, copy):
            with open_engine("postgres", ours, None) as engine:
                expected = client_functions.answers_of(engine)

            def prove(booked: Sequence[BookingEvent]) -> str:
                _audit(copy, booked)
                _compare_with_an_epoch(ours, copy)
                return f"{AUDITED}; its answers equal those of DuckDB over an epoch"

            booking_clients = [PostgresBooking(copy, number) for number in range(clients)]
            query_clients = [PostgresQuerying(ours, expected, number) for number in range(clients)]
            yield PreparedSetUp([*booking_clients, *query_clients], prove)

    return SetUp("Postgres alone", True, opened)


def postgres_and_standby(settings: Settings, store: Store) -> SetUp:
    """The standby replicates the server of the other set-ups and has the same memory settings. It shares the
    cores and the disk of the machine."""

    @contextmanager
    def opened(clients: int) -> Iterator[PreparedSetUp]:
        with copied(settings, store) as (ours, copy), open_standby(copy) as dsn:
            theirs = Settings(ours.home, ours.lake, dsn=dsn)
            with open_engine("postgres", ours, None) as engine:
                expected = client_functions.answers_of(engine)

            def prove(booked: Sequence[BookingEvent]) -> str:
                _audit(copy, booked)
                standby = open_database(dsn, install=False)
                catch_up(copy, standby)
                _require_stored(booked, _outcomes(standby, booked))
                with (
                    open_engine("postgres", ours, None) as primary,
                    standby_engine(standby) as follower,
                ):
                    client_functions.compare(
                        client_functions.answers_of(primary), client_functions.answers_of(follower)
                    )
                return f"{AUDITED}, also on the standby; its answers equal those of the primary"

            booking_clients = [PostgresBooking(copy, number) for number in range(clients)]
            query_clients = [StandbyQuerying(theirs, expected, number) for number in range(clients)]
            yield PreparedSetUp(
                [*booking_clients, *query_clients], prove, lambda booked: _commits(copy, booked)
            )

    return SetUp("Postgres, queries on a hot standby", False, opened)


def postgres_and_epochs(settings: Settings, store: Store) -> SetUp:
    @contextmanager
    def opened(clients: int) -> Iterator[PreparedSetUp]:
        with copied(settings, store) as (ours, copy), ExitStack() as sync:
            with open_engine("postgres", ours, None) as engine:
                expected = client_functions.answers_of(engine)
            lake = Lake.create(ours.lake)
            publish_snapshot(copy, lake)
            sync.enter_context(syncing(copy, lake))

            def prove(booked: Sequence[BookingEvent]) -> str:
                sync.close()  # the sync publishes the last changes and ends
                _audit(copy, booked)
                verify_now(copy, lake).prove()
                with (
                    open_engine("postgres", ours, None) as rows,
                    open_engine("duckdb", ours, newest_epoch(ours.lake)) as columns,
                ):
                    client_functions.compare(
                        client_functions.answers_of(rows), client_functions.answers_of(columns)
                    )
                return f"{AUDITED}; the last epoch equals the store row by row, and its answers are equal"

            booking_clients = [PostgresBooking(copy, number) for number in range(clients)]
            query_clients = [EpochQuerying(ours, expected, number) for number in range(clients)]
            yield PreparedSetUp(
                [*booking_clients, *query_clients], prove, lambda booked: _commits(copy, booked)
            )

    return SetUp(f"Postgres, an epoch each {SYNC_EVERY_SECONDS:g} s", False, opened)


def duckdb_alone(settings: Settings, store: Store) -> SetUp:
    @contextmanager
    def opened(clients: int) -> Iterator[PreparedSetUp]:
        with tempfile.TemporaryDirectory(prefix="frontier-", dir=settings.home) as folder:
            ours = _settings(Path(folder), store)
            file = Path(folder) / "rides.duckdb"
            duckdb_rows.create(file, publish_snapshot(store, Lake.create(ours.lake)))
            with open_engine("postgres", ours, None) as engine:
                expected = client_functions.answers_of(engine)

            def prove(booked: Sequence[BookingEvent]) -> str:
                with duckdb_rows.opened(file) as connection:
                    if broken := duckdb_rows.broken_conditions(connection):
                        raise ProofFailed(f"✗ DuckDB alone: the audit failed: {', '.join(broken)}")
                    _require_stored(
                        booked, duckdb_rows.decided(connection, [one.request_id for one in booked])
                    )
                    frames = {name: connection.table(name).pl().lazy() for name in duckdb_rows.TABLES}
                    answers = client_functions.answers_of(DuckDB(duckdb_rows.session(connection)))
                client_functions.compare(_answers_of_polars(frames), answers)
                return f"{AUDITED}; its answers equal those of Polars over the same rows"

            yield PreparedSetUp([DuckDBAlone(file, riders_by_city(store), expected, clients, clients)], prove)

    return SetUp("DuckDB alone", True, opened)


@contextmanager
def copied(settings: Settings, store: Store) -> Iterator[tuple[Settings, Store]]:
    """A copy of the store's database in the same server, with its own lake folder, so that all set-ups start
    from the same rows. Both are removed afterwards."""
    source = str(conninfo_to_dict(store.conninfo)["dbname"])
    # Connect to another database: CREATE DATABASE … TEMPLATE requires a template without connections.
    server = open_database(make_conninfo(store.conninfo, dbname="postgres"), install=False)
    with (
        tempfile.TemporaryDirectory(prefix="frontier-", dir=settings.home) as folder,
        server.connect() as admin,
    ):
        name = Path(folder).name
        admin.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(source)))
        try:
            copy = open_database(make_conninfo(store.conninfo, dbname=name))
            yield _settings(Path(folder), copy), copy
        finally:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def _settings(folder: Path, store: Store) -> Settings:
    return Settings(folder, LakeAddress.at(folder / "lake"), dsn=store.conninfo)


def _audit(store: Store, booked: Sequence[BookingEvent]) -> None:
    with store.connect() as connection:
        report = audit(connection)
    if not report.passed:
        raise ProofFailed(f"✗ {report.verdict}")
    _require_stored(booked, _outcomes(store, booked))


def _require_stored(booked: Sequence[BookingEvent], stored: dict[object, str]) -> None:
    """Check that every acknowledged decision is stored. Raises ProofFailed if a stored decision differs from
    the acknowledged one."""
    lost = [one for one in booked if stored.get(one.request_id) != one.outcome]
    if lost:
        raise ProofFailed(
            f"✗ {len(lost)} of {len(booked)} stored bookings differ from their acknowledgements"
        )


def _outcomes(store: Store, booked: Sequence[BookingEvent]) -> dict[object, str]:
    return {request_id: outcome for request_id, (outcome, _) in _decided(store, booked).items()}


def _decided(store: Store, booked: Sequence[BookingEvent]) -> dict[object, tuple[str, int]]:
    query = QUERIES["decided"]
    with store.connect() as connection:
        rows = connection.execute(query, {"request_ids": [one.request_id for one in booked]})
        return {request_id: (outcome, tx) for request_id, outcome, tx in rows}


def _commits(store: Store, booked: Sequence[BookingEvent]) -> list[Commit]:
    """The transaction of each booking, from the row it wrote, and the time of its answer."""
    decided = _decided(store, booked)
    return [Commit(decided[one.request_id][1], one.ended) for one in booked]


def _compare_with_an_epoch(settings: Settings, store: Store) -> None:
    epoch = publish_snapshot(store, Lake.create(settings.lake))
    with (
        open_engine("postgres", settings, None) as rows,
        open_engine("duckdb", settings, epoch) as columns,
    ):
        client_functions.compare(client_functions.answers_of(columns), client_functions.answers_of(rows))


def _answers_of_polars(frames: dict[str, pl.LazyFrame]) -> client_functions.Answers:
    answers = {}
    for name in client_functions.NAMES:
        question = find_question(name)
        assert question.frames is not None
        answers[name] = question.frames(frames).collect().to_arrow()
    return answers
