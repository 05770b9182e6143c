"""The time of an epoch, by the size of the store and of the change, and its effect on bookings.

The epochs are compared with Postgres row by row before a figure is recorded.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pytest
from psycopg.conninfo import make_conninfo
from pytest_benchmark.fixture import BenchmarkFixture

from bench.env import MORE_DRIVERS, BenchEnv
from bench.freshness import FreshnessResult, measure_freshness
from lakehouse.capture.overlay import open_overlay
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines import open_engine
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from oltp import booking, lifecycle
from oltp.ingest.history import vacuum_and_analyze
from oltp.ingest.seed import seed_rides
from oltp.store import Store, ensure_database, open_database, open_store
from oltp.workload import draw_requests, riders_by_city
from ridelake.queries import load_queries
from ridelake.settings import LakeAddress, Settings

QUERIES = load_queries("bench")

pytestmark = pytest.mark.scale("full")

CHANGED_RIDES = 1_000
ROUNDS = 15
REPEATS = 9


@dataclass(slots=True)
class GrowingStore:
    """A store with `rides` past rides, its lake, and the active rides of the last round."""

    rides: int
    store: Store
    lake: Lake
    begun: list[int]
    round: int = 0

    def change(self) -> None:
        """Book CHANGED_RIDES rides, cancel half of them and the rides of the previous round."""
        self.round += 1
        requests = draw_requests(np.random.default_rng(self.round), riders_by_city(self.store))
        with self.store.connect() as connection:
            lifecycle.cancel_many(connection, self.begun)
            decided = booking.book_many(connection, [next(requests) for _ in range(CHANGED_RIDES)])
        begun = [one.ride_id for one in decided if one.ride_id is not None]
        self.begun = begun[: CHANGED_RIDES // 2]
        with self.store.connect() as connection:
            lifecycle.cancel_many(connection, begun[CHANGED_RIDES // 2 :])


def bench_incremental_epoch(benchmark: BenchmarkFixture, sizes: tuple[int, ...]) -> None:
    """The same change to stores of different sizes, interleaved."""
    benchmark.group = "incremental epoch of about 1,000 changed rides"
    seconds: dict[int, list[float]] = {rides: [] for rides in sizes}
    changed: list[int] = []
    with growing_stores(sizes) as all_stores:

        def one_round() -> None:
            for one in all_stores:
                one.change()
                started = perf_counter()
                taken = publish_changes(one.store, one.lake)
                seconds[one.rides].append(perf_counter() - started)
                changed.append(taken.epoch.tables["rides"].changed)

        benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=2)
        for one in all_stores:
            verified = verify_now(one.store, one.lake)
            verified.prove()
    smallest = seconds[sizes[0]]
    benchmark.extra_info |= {
        "rides_changed_p50": median(changed),
        "sizes": [
            {
                "rides": rides,
                "p50_s": median(of),
                "p99_s": float(np.percentile(of, 99)),
                "of_the_smallest": median(np.array(of) / np.array(smallest)),
            }
            for rides, of in seconds.items()
        ],
        "verified": "equal",
    }


@contextmanager
def growing_stores(sizes: tuple[int, ...]) -> Iterator[list[GrowingStore]]:
    """Stores of all sizes in one server, with enough drivers and a first epoch."""
    with tempfile.TemporaryDirectory(prefix="ridelake-sizes-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with open_store(Settings(folder, LakeAddress.at(folder / "lake"))) as server:
            yield [_growing_store(server, folder, rides) for rides in sizes]


def _growing_store(server: Store, folder: Path, rides: int) -> GrowingStore:
    database = f"rides_{rides}"
    ensure_database(server.conninfo, database)
    store = open_database(make_conninfo(server.conninfo, dbname=database))
    seed_rides(store, rides, seed=1)
    with store.connect() as connection:
        connection.execute(QUERIES["more_drivers"], {"drivers": MORE_DRIVERS})
        vacuum_and_analyze(connection)
    lake = Lake.create(LakeAddress.at(folder / f"lake_{rides}"))
    publish_snapshot(store, lake)
    return GrowingStore(rides, store, lake, [])


def bench_freshness(benchmark: BenchmarkFixture, env: BenchEnv) -> None:
    """The time from a COMMIT to an epoch with it at a steady rate, and the effect of syncing on rides/s."""
    benchmark.group = "freshness at 1,000 rides/s, and the effect of syncing on bookings"
    lake = Lake.create(env.settings.lake)
    publish_snapshot(env.store, lake)
    found: FreshnessResult = benchmark.pedantic(lambda: measure_freshness(env.store, lake), rounds=1)
    verify_now(env.store, lake).prove()
    benchmark.extra_info |= found.report() | {"verified": "equal"}


def bench_fresh_answer(benchmark: BenchmarkFixture, env: BenchEnv) -> None:
    """`--fresh` compared with the newest epoch: the same query, interleaved."""
    benchmark.group = "an up-to-date answer"
    lake = Lake.create(env.settings.lake)
    publish_snapshot(env.store, lake)
    one = GrowingStore(0, env.store, lake, [])
    one.change()
    question = (
        "SELECT status, count(*) AS rides, CAST(sum(fare_cents) AS bigint) AS cents FROM rides GROUP BY 1"
    )
    plain: list[float] = []
    fresh: list[float] = []

    def both() -> None:
        newest = newest_epoch(lake.address)
        started = perf_counter()
        with open_engine("duckdb", env.settings, newest) as engine:
            engine.sql(question)
        plain.append(perf_counter() - started)
        started = perf_counter()
        with (
            open_overlay(settings_of(env), newest) as now,
            open_engine("duckdb", env.settings, now) as engine,
        ):
            answer = engine.sql(question)
        fresh.append(perf_counter() - started)
        with open_engine("postgres", settings_of(env), None) as engine:
            assert engine.sql(question).sort_by("status").equals(answer.sort_by("status"))

    benchmark.pedantic(both, rounds=REPEATS, warmup_rounds=1)
    benchmark.extra_info |= {
        "plain_ms_p50": 1e3 * median(plain),
        "fresh_ms_p50": 1e3 * median(fresh),
        "overhead_ms_p50": 1e3 * median(np.array(fresh) - np.array(plain)),
        "answers": "equal to postgres",
    }


def settings_of(env: BenchEnv) -> Settings:
    return Settings(env.settings.home, env.settings.lake, dsn=env.store.conninfo)


@pytest.fixture
def spare() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ridelake-space-") as folder:
        yield Path(folder)


def bench_space(benchmark: BenchmarkFixture, env: BenchEnv, spare: Path) -> None:
    """Bytes per ride: heap, indexes, CSV, Parquet with defaults, epoch."""
    import polars as pl
    import pyarrow.parquet as pq

    benchmark.group = "space"
    lake = Lake.create(LakeAddress.at(spare / "lake"))
    epoch = benchmark.pedantic(lambda: publish_snapshot(env.store, lake), rounds=1)
    rides = epoch.tables["rides"]
    rows = pl.read_parquet(rides.locations, glob=False)
    rows.write_csv(spare / "rides.csv")
    pq.write_table(rows.to_arrow(), spare / "default.parquet")
    assert pl.read_parquet(spare / "default.parquet").equals(rows)
    with env.store.connect() as connection:
        sized = connection.execute(QUERIES["ride_bytes"]).fetchone()
    assert sized is not None
    heap, indexes, counted = sized
    assert counted == rides.rows
    benchmark.extra_info |= {
        f"{name}_bytes_per_ride": size / rides.rows
        for name, size in {
            "heap": heap,
            "indexes": indexes,
            "csv": (spare / "rides.csv").stat().st_size,
            "default_parquet": (spare / "default.parquet").stat().st_size,
            "epoch": rides.bytes,
        }.items()
    }
