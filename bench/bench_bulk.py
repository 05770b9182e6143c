"""Bulk operations: generate rides, load files, publish an epoch."""

import itertools
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.env import BenchEnv
from lakehouse.capture.publish import publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from oltp.audit import audit
from oltp.ingest.seed import SeedResult, seed_rides
from oltp.ingest.tlc import LoadReport, check_files, load_files
from oltp.store import Store

pytestmark = pytest.mark.scale("full")

SEEDED_RIDES = 100_000


def audited(store: Store) -> str:
    with store.connect() as connection:
        report = audit(connection)
    assert report.passed, report.verdict
    return "passed"


def bench_seed(benchmark: BenchmarkFixture, env: BenchEnv) -> None:
    benchmark.group = "bulk"
    seeds = itertools.count(1_000)  # a repeated seed stores nothing
    done: SeedResult = benchmark.pedantic(
        lambda: seed_rides(env.store, SEEDED_RIDES, next(seeds)), rounds=3, warmup_rounds=1
    )
    assert done.rides == SEEDED_RIDES
    benchmark.extra_info |= {
        "rows": done.rides,
        "rows_per_second": done.rides / benchmark.stats.stats.median,
        "audit": audited(env.store),
    }


def bench_load(benchmark: BenchmarkFixture, env: BenchEnv, yellow_trips: Path, tmp_path: Path) -> None:
    benchmark.group = "bulk"
    # One round: a file that is loaded again adds no rows.
    done: LoadReport = benchmark.pedantic(
        lambda: load_files(env.store, check_files([yellow_trips]), tmp_path / "quarantine"), rounds=1
    )
    assert done.loaded > 0
    assert done.read == done.loaded + sum(done.rejected.values())
    benchmark.extra_info |= {
        "rows": done.read,
        "rows_per_second": done.read / benchmark.stats.stats.median,
        "audit": audited(env.store),
    }


def bench_snapshot(benchmark: BenchmarkFixture, env: BenchEnv) -> None:
    benchmark.group = "bulk"
    lake = Lake.create(env.settings.lake)
    epoch: Epoch = benchmark.pedantic(lambda: publish_snapshot(env.store, lake), rounds=3, warmup_rounds=1)
    with env.store.connect() as connection:
        counted = connection.execute("SELECT count(*) FROM rides").fetchone()
    assert counted == (epoch.tables["rides"].rows,)
    benchmark.extra_info |= {
        "rows": epoch.rows,
        "rows_per_second": epoch.rows / benchmark.stats.stats.median,
        "bytes": epoch.bytes,
    }
