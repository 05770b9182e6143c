"""Export of a table from Postgres to Parquet, by ridelake and by other tools, interleaved.

Ratios are computed round by round. The slow tools run once.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.env import BenchEnv
from bench.exporters import (
    Scanner,
    by_adbc,
    by_connectorx,
    by_psycopg_rows,
    ceiling,
    heap_source,
    ours,
    rows_and_cents,
    scanner,
)
from lakehouse.source.tables import TableSource
from ridelake.queries import load_queries

QUERIES = load_queries("bench")

pytestmark = pytest.mark.scale("full")

ROUNDS = 5
COPIES = 10
CORES = 2


@pytest.fixture(scope="module")
def source(env: BenchEnv) -> Iterator[TableSource]:
    with env.store.connect() as connection:
        create = QUERIES["exported_rides"]
        connection.execute(create.replace("%(copies)s", str(COPIES)))
        connection.execute("VACUUM (ANALYZE, FREEZE) exported_rides")
        try:
            yield heap_source(connection, "exported_rides", ("city_id", "requested_at"))
        finally:
            connection.execute("DROP TABLE exported_rides")


@pytest.fixture(scope="module")
def duckdb_scanner(env: BenchEnv, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scanner]:
    with scanner(env.store, tmp_path_factory.mktemp("scanner"), CORES) as ready:
        yield ready


@pytest.mark.timeout(900)
def bench_export(
    benchmark: BenchmarkFixture,
    env: BenchEnv,
    source: TableSource,
    duckdb_scanner: Scanner,
    tmp_path: Path,
) -> None:
    benchmark.group = "export to Parquet"
    store = env.store
    with store.connect() as connection:
        expected = connection.execute(
            "SELECT count(*), sum(fare_cents)::bigint FROM exported_rides"
        ).fetchone()
    seconds: dict[str, list[float]] = {}

    def measure(name: str, variant: Callable[[Path], float]) -> None:
        folder = tmp_path / name
        folder.mkdir()
        seconds.setdefault(name, []).append(variant(folder))
        assert rows_and_cents(folder) == expected, name
        shutil.rmtree(folder)

    def interleaved() -> None:
        seconds.setdefault("ceiling", []).append(ceiling(store, source))
        measure("one_worker", lambda folder: ours(store, source, folder, 1))
        measure("two_workers", lambda folder: ours(store, source, folder, CORES))
        measure("duckdb_scanner", lambda folder: duckdb_scanner(source, folder))

    def others() -> None:
        measure("adbc", lambda folder: by_adbc(store, source, folder))
        measure("connectorx", lambda folder: by_connectorx(store, source, folder))
        measure("psycopg_rows", lambda folder: by_psycopg_rows(store, source, folder))

    others()
    benchmark.pedantic(interleaved, rounds=ROUNDS)
    assert expected is not None
    benchmark.extra_info |= {"rows": expected[0], "checked": "rows and cents"}
    benchmark.extra_info |= {f"{name}_s": median(times) for name, times in seconds.items()}
    benchmark.extra_info |= _ratio("one_worker_to_ceiling", seconds["ceiling"], seconds["one_worker"])
    benchmark.extra_info |= _ratio("two_workers_to_duckdb", seconds["duckdb_scanner"], seconds["two_workers"])


def _ratio(name: str, theirs: list[float], ours: list[float]) -> dict[str, float]:
    """Their time divided by ours: median, minimum, maximum."""
    ratios = sorted(a / b for a, b in zip(theirs, ours, strict=True))
    return {name: median(ratios), f"{name}_min": ratios[0], f"{name}_max": ratios[-1]}
