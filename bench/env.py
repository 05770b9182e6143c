"""Fixtures of the benchmarks: a store with its lake, stores of several sizes, and a concurrent sync."""

import multiprocessing
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from lakehouse.capture.publish import publish_snapshot
from lakehouse.capture.sync import sync_repeatedly
from lakehouse.source.tables import TableSource
from lakehouse.table.catalog import Lake
from lakehouse.table.columns import read_columns
from lakehouse.table.epoch import Epoch
from lakehouse.table.layout import TableLayout
from lakehouse.table.published import read_epochs
from oltp.audit import audit
from oltp.ingest.history import vacuum_and_analyze
from oltp.ingest.seed import seed_rides
from oltp.store import Store, ensure_database, open_database, open_store
from ridelake.errors import RidelakeError
from ridelake.queries import load_queries
from ridelake.settings import LakeAddress, Settings

QUERIES = load_queries("bench")

MORE_DRIVERS = 4_000
SEED = 1
SYNC_EVERY_SECONDS = 0.5
SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit threads and connections


@dataclass(frozen=True, slots=True)
class BenchEnv:
    """A store with past rides, and the folder of its lake. `settings` has the address of the store."""

    settings: Settings
    store: Store


@contextmanager
def open_env(rides: int) -> Iterator[BenchEnv]:
    """A store with `rides` past rides, and enough drivers for all bookings."""
    with tempfile.TemporaryDirectory(prefix="ridelake-bench-", ignore_cleanup_errors=True) as folder:
        settings = Settings(Path(folder), LakeAddress.at(Path(folder) / "lake"))
        with open_store(settings) as store:
            _fill(store, rides, MORE_DRIVERS)
            yield BenchEnv(Settings(settings.home, settings.lake, dsn=store.conninfo), store)


@dataclass(frozen=True, slots=True)
class SizedStore:
    """A store with `rides` past rides, and an epoch of it."""

    rides: int
    settings: Settings
    store: Store
    epoch: Epoch


@contextmanager
def sized_stores(sizes: Sequence[int], drivers: int = 0) -> Iterator[list[SizedStore]]:
    """Stores in one server, one for each number of rides in `sizes`, each with its own lake. `drivers` are
    added to each."""
    with tempfile.TemporaryDirectory(prefix="ridelake-sized-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with open_store(Settings(folder, LakeAddress.at(folder / "lake"))) as server:
            yield [_sized(server.conninfo, folder, rides, drivers) for rides in sizes]


def _sized(server: str, folder: Path, rides: int, drivers: int) -> SizedStore:
    database = f"rides_{rides}"
    ensure_database(server, database)
    store = open_database(make_conninfo(server, dbname=database))
    _fill(store, rides, drivers)
    lake = Lake.create(LakeAddress.at(folder / f"lake_{rides}"))
    epoch = publish_snapshot(store, lake)
    return SizedStore(rides, Settings(folder, lake.address, dsn=store.conninfo), store, epoch)


def _fill(store: Store, rides: int, drivers: int) -> None:
    seed_rides(store, rides, SEED)
    with store.connect() as connection:
        if drivers:
            connection.execute(QUERIES["more_drivers"], {"drivers": drivers})
        vacuum_and_analyze(connection)


def assert_audited(store: Store) -> None:
    with store.connect() as connection:
        report = audit(connection)
    assert report.passed, report.verdict


@contextmanager
def scratch_schema(store: Store) -> Iterator[Connection[TupleRow]]:
    """A connection that creates tables in its own schema and also sees the tables of the store. The schema
    is dropped afterwards."""
    with store.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS bench_scratch CASCADE")  # left by a killed run
        connection.execute("CREATE SCHEMA bench_scratch")
        connection.execute("SET search_path = bench_scratch, ridelake")
        try:
            yield connection
        finally:
            if not connection.closed:
                connection.execute("DROP SCHEMA bench_scratch CASCADE")


def heap_source(connection: Connection[TupleRow], name: str, order_by: Sequence[str]) -> TableSource:
    """A source for a table without a key, which is only read."""
    found = connection.execute("SELECT to_regclass(%s)::oid::bigint", (name,)).fetchone()
    assert found is not None
    columns = read_columns(connection, [found[0]])[found[0]]
    layout = TableLayout(tuple(order_by))
    return TableSource("ridelake", name, f"ridelake.{name}", found[0], tuple(columns), (), None, "", layout)


@contextmanager
def syncing(store: Store, lake: Lake, every_seconds: float = SYNC_EVERY_SECONDS) -> Iterator[list[Epoch]]:
    """Sync in a separate process during the block. After the block, all commits are published and the list
    contains the epochs."""
    epochs: list[Epoch] = []
    before = lake.newest()
    ours, theirs = SPAWN.Pipe()
    arguments = (theirs, store, lake.address, every_seconds)
    process = SPAWN.Process(target=_sync_until_closed, args=arguments, name="sync", daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()  # EOFError: the process failed and has printed the error
        yield epochs
    finally:
        ours.close()
        process.join()
    if process.exitcode != 0:
        raise RidelakeError("the sync during the bookings failed")
    number = before.number if before else 0
    epochs += [one for one in reversed(read_epochs(lake.address)) if one.number > number]


def _sync_until_closed(parent: Pipe, store: Store, address: LakeAddress, every_seconds: float) -> None:
    """Sync until the parent closes the pipe or ends; then publish the remaining changes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    lake = Lake.create(address)
    try:
        parent.send("ready")
    except BrokenPipeError:  # the parent was interrupted
        return
    for synced in sync_repeatedly(every_seconds, store, lake):
        if parent.poll() and not synced.is_new:
            return
