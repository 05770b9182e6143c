"""Bulk operations: generate rides, load files, publish an epoch."""

import itertools
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.conftest import Ground
from lakehouse.catalog import Lake
from lakehouse.epoch import Epoch
from lakehouse.take import take_snapshot
from oltp.audit import audit
from oltp.load import LoadReport, check_files, load_files
from oltp.seed import Seeded, seed_rides
from oltp.store import Store

pytestmark = pytest.mark.scale("full")

SEEDED_RIDES = 100_000


def audited(store: Store) -> str:
    with store.connect() as connection:
        report = audit(connection)
    assert report.passed, report.verdict
    return "passed"


def bench_seed(benchmark: BenchmarkFixture, ground: Ground) -> None:
    benchmark.group = "bulk"
    seeds = itertools.count(1_000)  # a repeated seed stores nothing
    done: Seeded = benchmark.pedantic(
        lambda: seed_rides(ground.store, SEEDED_RIDES, next(seeds)), rounds=3, warmup_rounds=1
    )
    assert done.rides == SEEDED_RIDES
    benchmark.extra_info |= {
        "rows": done.rides,
        "rows_per_second": done.rides / benchmark.stats.stats.median,
        "audit": audited(ground.store),
    }


def bench_load(benchmark: BenchmarkFixture, ground: Ground, yellow_trips: Path, tmp_path: Path) -> None:
    benchmark.group = "bulk"
    # One round: a file that is loaded again adds no rows.
    done: LoadReport = benchmark.pedantic(
        lambda: load_files(ground.store, check_files([yellow_trips]), tmp_path / "quarantine"), rounds=1
    )
    assert done.loaded > 0
    assert done.read == done.loaded + sum(done.rejected.values())
    benchmark.extra_info |= {
        "rows": done.read,
        "rows_per_second": done.read / benchmark.stats.stats.median,
        "audit": audited(ground.store),
    }


def bench_snapshot(benchmark: BenchmarkFixture, ground: Ground) -> None:
    benchmark.group = "bulk"
    lake = Lake.create(ground.settings.lake)
    epoch: Epoch = benchmark.pedantic(lambda: take_snapshot(ground.store, lake), rounds=3, warmup_rounds=1)
    with ground.store.connect() as connection:
        counted = connection.execute("SELECT count(*) FROM rides").fetchone()
    assert counted == (epoch.tables["rides"].rows,)
    benchmark.extra_info |= {
        "rows": epoch.rows,
        "rows_per_second": epoch.rows / benchmark.stats.stats.median,
        "bytes": epoch.bytes,
    }
