"""The store and the epoch of all benchmarks, and a summary of their figures at the end.

Results without a column in pytest-benchmark (rides/s, ratios, percentiles) are in `extra_info`, with their
check.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.custom_table.subject import UserTable
from bench.figure import DEFAULT, SCALES, Figure, Scale
from bench.record import Record, Recorder, is_skipped_at, this_machine
from lakehouse.capture.publish import publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from oltp.ingest.history import vacuum_and_analyze
from oltp.ingest.seed import seed_rides
from oltp.store import Store, open_store
from ridelake.queries import load_queries
from ridelake.settings import LakeAddress, Settings

QUERIES = load_queries("bench")

MACHINE_BEFORE = this_machine()  # before the benchmarks put load on it
MORE_DRIVERS = 4_000
SEED = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ridelake")
    group.addoption("--scale", choices=list(SCALES), default=DEFAULT.name, help="how much to measure")
    group.addoption("--record", type=Path, metavar="FILE", help="write the record to this file")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "scale(name): the smallest scale at which a benchmark runs")
    if not any(isinstance(plugin, Recorder) for plugin in config.pluginmanager.get_plugins()):
        record = Record.begin(config.getoption("scale"), SEED, MACHINE_BEFORE)
        config.pluginmanager.register(Recorder(record, config.getoption("record")))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    own = any(isinstance(plugin, UserTable) for plugin in config.pluginmanager.get_plugins())
    others = [
        item
        for item in items
        if is_skipped_at(item, config.getoption("scale")) or own != item.path.match("bench/custom_table/*")
    ]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.fixture(scope="session")
def scale(pytestconfig: pytest.Config) -> Scale:
    return SCALES[pytestconfig.getoption("scale")]


@pytest.fixture
def figure(benchmark: BenchmarkFixture, scale: Scale) -> Figure:
    """The result of the benchmark, which fills it."""
    return Figure(benchmark, scale)


@dataclass(frozen=True, slots=True)
class BenchEnv:
    """A store of past rides (200,000; quick: 20,000) with enough drivers for all bookings."""

    settings: Settings
    store: Store


@pytest.fixture(scope="session")
def ground(scale: Scale) -> Iterator[BenchEnv]:
    with tempfile.TemporaryDirectory(prefix="ridelake-bench-", ignore_cleanup_errors=True) as folder:
        settings = Settings(Path(folder), LakeAddress.at(Path(folder) / "lake"))
        with open_store(settings) as store:
            seed_rides(store, scale.rides, SEED)
            with store.connect() as connection:
                more = QUERIES["more_drivers"]
                connection.execute(more, {"drivers": MORE_DRIVERS})
                vacuum_and_analyze(connection)
            yield BenchEnv(settings, store)


@pytest.fixture(scope="session")
def yellow_trips() -> Path:
    """A file of real trips, from the folder RIDELAKE_TEST_DATA."""
    here = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("RIDELAKE_TEST_DATA", here)) / "yellow_sample_2019.parquet"
    if not path.exists():
        pytest.skip(f"{path} does not exist; set RIDELAKE_TEST_DATA to the folder of real trip files")
    return path


@pytest.fixture(scope="session")
def sizes() -> tuple[int, ...]:
    """Numbers of rides. Five million take minutes to generate; set RIDELAKE_BENCH_FULL to include them."""
    full = (5_000_000,) if os.environ.get("RIDELAKE_BENCH_FULL") else ()
    return (100_000, 1_000_000, *full)


@pytest.fixture
def epoch(ground: BenchEnv) -> Epoch:
    """An epoch of the current store."""
    return publish_snapshot(ground.store, Lake.create(ground.settings.lake))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, object]) -> None:
    machine = MACHINE_BEFORE
    machine_info["ridelake"] = {
        "processor": machine.processor,
        "cores": machine.cores,
        "load_per_core": machine.load_per_core,
        "versions": machine.versions,
        "seed": SEED,
    }


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    measured = [one for one in getattr(session, "benchmarks", []) if one.extra_info]
    if not measured:
        return
    terminalreporter.section("figures")
    for one in measured:
        single = {name: value for name, value in one.extra_info.items() if not isinstance(value, list)}
        figures = ", ".join(f"{name} {_cell_text(value)}" for name, value in single.items())
        terminalreporter.write_line(f"{one.name}: {figures}")
        for value in one.extra_info.values():
            for line in _lines(value) if isinstance(value, list) else []:
                terminalreporter.write_line(f"  {line}")
    for warning in MACHINE_BEFORE.warnings:
        terminalreporter.write_line(f"warning: {warning}")


def _lines(rows: list[dict[str, object]]) -> Iterator[str]:
    """A table with a header; the first column is left-aligned."""
    cells = [list(rows[0]), *([_cell_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *others in cells:
        padded = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *padded])


def _cell_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
