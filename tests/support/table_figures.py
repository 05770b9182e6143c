"""The figures of `bench --table`, each measured in one round."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.custom_table import bench_custom_table as own
from bench.custom_table.subject import UserTable
from bench.figure import Figure, Scale

ONE_ROUND = Scale("quick", 0, rides=0, seconds=0, rounds_min=1, rounds_max=1)
FIGURES = ("look_up", "scan", "group_by", "insert", "size")


class Untimed:
    """Replaces pytest-benchmark's fixture, which does not work in a parallel worker."""

    def __init__(self) -> None:
        self.group = ""
        self.extra_info: dict[str, Any] = {}
        self.stats = SimpleNamespace(group="")

    def pedantic(self, work: Callable[[], Any], rounds: int, iterations: int) -> Any:
        return work()


def figures_of(subject: UserTable, tmp_path: Path) -> dict[str, Any]:
    """The report of each benchmark, or the reason for skipping it."""
    found: dict[str, Any] = {}
    for name in FIGURES:
        figure = Figure(Untimed(), ONE_ROUND)  # type: ignore[arg-type]
        folder = tmp_path / name
        folder.mkdir()
        more = (folder,) if name in ("leaving", "insert", "size") else ()
        try:
            getattr(own, f"bench_{name}")(figure, subject, *more)
            figure.close()
        except pytest.skip.Exception as skipped:
            found[name] = str(skipped)
        else:
            found[name] = figure.report()
    return found
