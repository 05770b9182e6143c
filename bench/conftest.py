"""Fixtures of the benchmarks, and the report that pytest prints at the end of a run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.custom_table.subject import UserTable
from bench.env import SEED, BenchEnv, open_env
from bench.figure import DEFAULT, SCALES, Figure, Scale
from bench.machine import this_machine
from bench.record import Record
from bench.report.terminal import report_lines
from bench.run import Recorder, is_not_named, is_skipped_at
from lakehouse.capture.publish import publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch

MACHINE_BEFORE = this_machine()  # before the benchmarks put load on it


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ridelake")
    group.addoption("--scale", choices=list(SCALES), default=DEFAULT.name, help="how much to measure")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "scale(name): the smallest scale at which a benchmark runs")
    config.addinivalue_line("markers", "named(word): runs only if --only (or -k) has the word")
    if not any(isinstance(plugin, Recorder) for plugin in config.pluginmanager.get_plugins()):
        record = Record.begin(config.getoption("scale"), SEED, MACHINE_BEFORE)
        config.pluginmanager.register(Recorder(record))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    own = any(isinstance(plugin, UserTable) for plugin in config.pluginmanager.get_plugins())
    others = [
        item
        for item in items
        if is_skipped_at(item, config.getoption("scale"))
        or is_not_named(item, config.getoption("keyword"))
        or own != item.path.match("bench/custom_table/*")
    ]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for recorder in config.pluginmanager.get_plugins():
        if isinstance(recorder, Recorder) and recorder.record.figures:
            terminalreporter.section("figures")
            for line in report_lines(recorder.record, terminalreporter._tw.fullwidth):
                terminalreporter.write_line(line.plain)


@pytest.fixture(scope="session")
def scale(pytestconfig: pytest.Config) -> Scale:
    return SCALES[pytestconfig.getoption("scale")]


@pytest.fixture
def figure(benchmark: BenchmarkFixture, scale: Scale) -> Figure:
    """An empty figure, which the benchmark fills."""
    return Figure(benchmark, scale)


@pytest.fixture(scope="session")
def env(scale: Scale) -> Iterator[BenchEnv]:
    with open_env(scale.rides) as ready:
        yield ready


@pytest.fixture
def cluster_env(scale: Scale) -> Iterator[BenchEnv]:
    """A store for a cluster. RIDELAKE_BENCH_CLUSTER_RIDES is the number of rides; 20 million take minutes to
    generate."""
    with open_env(int(os.environ.get("RIDELAKE_BENCH_CLUSTER_RIDES") or scale.rides)) as ready:
        yield ready


@pytest.fixture
def epoch(env: BenchEnv) -> Epoch:
    """An epoch of the current store."""
    return publish_snapshot(env.store, Lake.create(env.settings.lake))


@pytest.fixture(scope="session")
def movers_folder() -> Path:
    """The folder of the environments of other tools: RIDELAKE_MOVERS, or one in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("RIDELAKE_MOVERS") or cache / "ridelake" / "movers").absolute()


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
