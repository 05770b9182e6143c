"""The machine of a run: its processor, memory and load, and the versions of the packages."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

BUSY_LOAD_PER_CORE = 0.5  # above it, other processes affect the times


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, and its load before the run."""

    system: str
    processor: str
    cores: int
    memory_gib: float
    load_per_core: float
    versions: dict[str, str]

    @property
    def warnings(self) -> list[str]:
        if self.load_per_core <= BUSY_LOAD_PER_CORE:
            return []
        return [f"other processes were running (load {self.load_per_core:.1f} per core): times are too long"]

    @property
    def description(self) -> str:
        return f"{self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB, {self.system}"

    @property
    def versions_text(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())


def this_machine() -> Machine:
    cores = os.cpu_count() or 1
    packages = ("ridelake", "duckdb", "polars", "pyarrow", "psycopg", "pyiceberg")
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=cores,
        memory_gib=psutil.virtual_memory().total / 2**30,
        load_per_core=psutil.getloadavg()[0] / cores,
        versions={"python": platform.python_version(), **{name: version(name) for name in packages}},
    )


def _processor() -> str:
    """The model name; on Linux from /proc/cpuinfo."""
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
