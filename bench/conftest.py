"""One store and one epoch for all benchmarks, and their figures in words at the end.

A figure that pytest-benchmark has no column for (rides/s, a ratio to pgbench, a percentile) stands in
`extra_info`, beside the check that allows it.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

from bench.machine import this_machine
from lakehouse.catalog import Lake
from lakehouse.epoch import Epoch
from lakehouse.take import take_snapshot
from oltp.history import settle
from oltp.seed import seed_rides
from oltp.store import Store, open_store
from ridelake.settings import LakeAddress, Settings

MACHINE_BEFORE = this_machine()  # before the benchmarks keep it busy themselves
RIDES = 200_000
MORE_DRIVERS = 4_000
SEED = 1


@dataclass(frozen=True, slots=True)
class Ground:
    """What is measured on: a store of 200,000 past rides and a fleet that is never short."""

    settings: Settings
    store: Store


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="ridelake-bench-", ignore_cleanup_errors=True) as folder:
        settings = Settings(Path(folder), LakeAddress.at(Path(folder) / "lake"))
        with open_store(settings) as store:
            seed_rides(store, RIDES, SEED)
            with store.connect() as connection:
                more = files("bench").joinpath("more_drivers.sql").read_bytes()
                connection.execute(more, {"drivers": MORE_DRIVERS})
                settle(connection)
            yield Ground(settings, store)


@pytest.fixture(scope="session")
def yellow_trips() -> Path:
    """Real trips. The test runner is an edge, so it may ask the environment where they are."""
    here = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("RIDELAKE_TEST_DATA", here)) / "yellow_sample_2019.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here; set RIDELAKE_TEST_DATA to the folder of real trip files")
    return path


@pytest.fixture(scope="session")
def sizes() -> tuple[int, ...]:
    """Of tables that the same change is made to. Five million rides take minutes to make: if asked for."""
    full = (5_000_000,) if os.environ.get("RIDELAKE_BENCH_FULL") else ()
    return (100_000, 1_000_000, *full)


@pytest.fixture
def epoch(ground: Ground) -> Epoch:
    """An epoch of the store as it is now."""
    return take_snapshot(ground.store, Lake.create(ground.settings.lake))


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
    told = [one for one in getattr(session, "benchmarks", []) if one.extra_info]
    if not told:
        return
    terminalreporter.section("figures")
    for one in told:
        single = {name: value for name, value in one.extra_info.items() if not isinstance(value, list)}
        figures = ", ".join(f"{name} {_shown(value)}" for name, value in single.items())
        terminalreporter.write_line(f"{one.name}: {figures}")
        for value in one.extra_info.values():
            for line in _lines(value) if isinstance(value, list) else []:
                terminalreporter.write_line(f"  {line}")
    for doubt in MACHINE_BEFORE.doubts:
        terminalreporter.write_line(f"doubt: {doubt}")


def _lines(rows: list[dict[str, object]]) -> Iterator[str]:
    """A table, its names above it; the first column stands to the left."""
    cells = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *others in cells:
        padded = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *padded])


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
