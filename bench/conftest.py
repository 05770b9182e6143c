"""One store and one epoch for all benchmarks, and their figures in words at the end.

A figure that pytest-benchmark has no column for (rides/s, a ratio to pgbench, a percentile) stands in
`extra_info`, beside the check that allows it.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.machine import this_machine
from lakehouse.catalog import Lake
from lakehouse.epoch import Epoch
from lakehouse.snapshot import take_snapshot
from oltp.seed import seed_rides
from oltp.store import Store, open_store
from ridelake.settings import Settings

MACHINE_BEFORE = this_machine()  # before the benchmarks keep it busy themselves
RIDES = 200_000
SEED = 1


@dataclass(frozen=True, slots=True)
class Ground:
    """What is measured on: a store of 200,000 past rides."""

    settings: Settings
    store: Store


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="ridelake-bench-", ignore_cleanup_errors=True) as folder:
        settings = Settings(Path(folder), Path(folder) / "lake")
        with open_store(settings) as store:
            seed_rides(store, RIDES, SEED)
            yield Ground(settings, store)


@pytest.fixture(scope="session")
def yellow_trips() -> Path:
    """Real trips. The test runner is an edge, so it may ask the environment where they are."""
    here = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("RIDELAKE_TEST_DATA", here)) / "yellow_sample_2019.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here; set RIDELAKE_TEST_DATA to the folder of real trip files")
    return path


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
        figures = ", ".join(f"{name} {_shown(value)}" for name, value in one.extra_info.items())
        terminalreporter.write_line(f"{one.name}: {figures}")
    for doubt in MACHINE_BEFORE.doubts:
        terminalreporter.write_line(f"doubt: {doubt}")


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
