"""A pytest plugin that records the result of each benchmark as soon as it ends."""

from collections.abc import Callable, Generator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from bench.figure import Figure, empty_report
from bench.record import Entry, Record
from bench.scale import SCALES


class Recorder:
    """Calls `on_entry` with each new entry. Writes the record after each entry if `path` is given."""

    def __init__(
        self, record: Record, path: Path | None, on_entry: Callable[[Entry], None] = lambda entry: None
    ) -> None:
        self.record = record
        self._path = path
        self._on_entry = on_entry
        self._started: dict[str, float] = {}
        self.selected = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        # Not in the collection hook, which is also called for an empty selection: a misspelt name must not
        # overwrite the record of another run.
        self.selected = len(session.items)
        if self.selected:
            self._write()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._started[nodeid] = monotonic()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        yield
        figure = getattr(item, "funcargs", {}).get("figure")
        if isinstance(figure, Figure):
            figure.close()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" or not report.passed:
            self._keep(item, call, report)
        return report

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            self.record.finish()
        if self.selected:
            self._write()

    def _keep(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        benchmark = getattr(item, "funcargs", {}).get("benchmark")
        extra: dict[str, Any] = dict(getattr(benchmark, "extra_info", {}))
        figure = extra.pop("figure", None)
        why = None
        if report.skipped:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        elif report.failed:
            error = call.excinfo.value if call.excinfo else None
            why = f"{type(error).__name__}: {error}".split("\n", 1)[0]
        elif figure is None and extra:
            figure = empty_report() | {"facts": extra}
        status = "measured" if report.passed else "skipped" if report.skipped else "failed"
        entry = Entry(
            name=item.nodeid,
            group=getattr(benchmark, "group", None) or item.name,
            status=status,  # type: ignore[arg-type]
            why=why,
            seconds=monotonic() - self._started.get(item.nodeid, monotonic()),
            figure=figure if report.passed else None,
        )
        # A benchmark that fails in its teardown was recorded as measured before: replace that entry.
        self.record.figures = [kept for kept in self.record.figures if kept.name != entry.name]
        self.record.figures.append(entry)
        self._write()
        self._on_entry(entry)

    def _write(self) -> None:
        if self._path is not None:
            self.record.write(self._path)


def left_out(item: pytest.Item, scale: str) -> bool:
    """Whether the benchmark is marked for a larger scale, such as `@pytest.mark.scale("full")`."""
    mark = item.get_closest_marker("scale")
    return mark is not None and SCALES[mark.args[0]].level > SCALES[scale].level
