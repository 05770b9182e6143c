"""What an epoch costs: by how much has changed, by how large the table is, beside the bookings it takes.

Every figure stands beside its check: the epochs are compared with Postgres, row by row, before it is told.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pytest
from psycopg.conninfo import make_conninfo
from pytest_benchmark.fixture import BenchmarkFixture

from bench.conftest import MORE_DRIVERS, Ground
from bench.freshness import Freshness, beside_sync
from lakehouse.catalog import Lake
from lakehouse.engines import open_engine
from lakehouse.fresh import fresh_epoch
from lakehouse.published import newest_epoch
from lakehouse.take import take_changes, take_snapshot
from lakehouse.verify import verify_now
from oltp import booking, moves
from oltp.history import settle
from oltp.seed import seed_rides
from oltp.simulate import draw_requests, riders_by_city
from oltp.store import Store, ensure_database, open_database, open_store
from ridelake.settings import LakeAddress, Settings

pytestmark = pytest.mark.scale("full")

CHANGED_RIDES = 1_000
ROUNDS = 15
REPEATS = 9


@dataclass(slots=True)
class Town:
    """A store with `rides` past ones, its lake, and the rides that the last round has begun."""

    rides: int
    store: Store
    lake: Lake
    begun: list[int]
    round: int = 0

    def change(self) -> None:
        """Half of CHANGED_RIDES are booked, and those of the round before are cancelled."""
        self.round += 1
        requests = draw_requests(np.random.default_rng(self.round), riders_by_city(self.store))
        with self.store.connect() as connection:
            moves.cancel_many(connection, self.begun)
            decided = booking.book_many(connection, [next(requests) for _ in range(CHANGED_RIDES)])
        begun = [one.ride_id for one in decided if one.ride_id is not None]
        self.begun = begun[: CHANGED_RIDES // 2]
        with self.store.connect() as connection:
            moves.cancel_many(connection, begun[CHANGED_RIDES // 2 :])


def bench_incremental_epoch(benchmark: BenchmarkFixture, sizes: tuple[int, ...]) -> None:
    """The same change to stores of different sizes, in turns."""
    benchmark.group = "incremental epoch of about 1,000 changed rides"
    seconds: dict[int, list[float]] = {rides: [] for rides in sizes}
    changed: list[int] = []
    with towns(sizes) as all_towns:

        def one_round() -> None:
            for town in all_towns:
                town.change()
                started = perf_counter()
                taken = take_changes(town.store, town.lake)
                seconds[town.rides].append(perf_counter() - started)
                changed.append(taken.epoch.tables["rides"].changed)

        benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=2)
        for town in all_towns:
            verified = verify_now(town.store, town.lake)
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
def towns(sizes: tuple[int, ...]) -> Iterator[list[Town]]:
    """Stores of all sizes in one server, with drivers to spare, and with their first epochs."""
    with tempfile.TemporaryDirectory(prefix="ridelake-sizes-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with open_store(Settings(folder, LakeAddress.at(folder / "lake"))) as server:
            yield [_town(server, folder, rides) for rides in sizes]


def _town(server: Store, folder: Path, rides: int) -> Town:
    database = f"rides_{rides}"
    ensure_database(server.conninfo, database)
    store = open_database(make_conninfo(server.conninfo, dbname=database))
    seed_rides(store, rides, seed=1)
    with store.connect() as connection:
        connection.execute(
            files("bench").joinpath("more_drivers.sql").read_bytes(), {"drivers": MORE_DRIVERS}
        )
        settle(connection)
    lake = Lake.create(LakeAddress.at(folder / f"lake_{rides}"))
    take_snapshot(store, lake)
    return Town(rides, store, lake, [])


def bench_freshness(benchmark: BenchmarkFixture, ground: Ground) -> None:
    """From a COMMIT in Postgres to an epoch that has it, at a steady rate; and the rides/s that it costs."""
    benchmark.group = "freshness at 1,000 rides/s, and what syncing costs the bookings"
    lake = Lake.create(ground.settings.lake)
    take_snapshot(ground.store, lake)
    found: Freshness = benchmark.pedantic(lambda: beside_sync(ground.store, lake), rounds=1)
    verify_now(ground.store, lake).prove()
    benchmark.extra_info |= found.report() | {"verified": "equal"}


def bench_fresh_answer(benchmark: BenchmarkFixture, ground: Ground) -> None:
    """`--fresh` against the newest epoch as it is, the same question, in turns."""
    benchmark.group = "an answer as of now"
    lake = Lake.create(ground.settings.lake)
    take_snapshot(ground.store, lake)
    town = Town(0, ground.store, lake, [])
    town.change()
    question = (
        "SELECT status, count(*) AS rides, CAST(sum(fare_cents) AS bigint) AS cents FROM rides GROUP BY 1"
    )
    plain: list[float] = []
    fresh: list[float] = []

    def both() -> None:
        newest = newest_epoch(lake.address)
        started = perf_counter()
        with open_engine("duckdb", ground.settings, newest) as engine:
            engine.sql(question)
        plain.append(perf_counter() - started)
        started = perf_counter()
        with (
            fresh_epoch(settings_of(ground), newest) as now,
            open_engine("duckdb", ground.settings, now) as engine,
        ):
            answer = engine.sql(question)
        fresh.append(perf_counter() - started)
        with open_engine("postgres", settings_of(ground), None) as engine:
            assert engine.sql(question).sort_by("status").equals(answer.sort_by("status"))

    benchmark.pedantic(both, rounds=REPEATS, warmup_rounds=1)
    benchmark.extra_info |= {
        "plain_ms_p50": 1e3 * median(plain),
        "fresh_ms_p50": 1e3 * median(fresh),
        "overhead_ms_p50": 1e3 * median(np.array(fresh) - np.array(plain)),
        "answers": "those of postgres",
    }


def settings_of(ground: Ground) -> Settings:
    return Settings(ground.settings.home, ground.settings.lake, dsn=ground.store.conninfo)


@pytest.fixture
def spare() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ridelake-space-") as folder:
        yield Path(folder)


def bench_space(benchmark: BenchmarkFixture, ground: Ground, spare: Path) -> None:
    """Bytes of a ride: in the heap, in its indexes, as CSV, as Parquet by default, in an epoch."""
    import polars as pl
    import pyarrow.parquet as pq

    benchmark.group = "space"
    lake = Lake.create(LakeAddress.at(spare / "lake"))
    epoch = benchmark.pedantic(lambda: take_snapshot(ground.store, lake), rounds=1)
    rides = epoch.tables["rides"]
    rows = pl.read_parquet(rides.locations, glob=False)
    rows.write_csv(spare / "rides.csv")
    pq.write_table(rows.to_arrow(), spare / "default.parquet")
    assert pl.read_parquet(spare / "default.parquet").equals(rows)
    with ground.store.connect() as connection:
        sized = connection.execute(files("bench").joinpath("ride_bytes.sql").read_bytes()).fetchone()
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
