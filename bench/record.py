"""The record of a run: one JSON file, complete after every benchmark, and the pytest plugin that writes it.

    {"format": 1, "scale", "seed", "started_at", "finished_at": null while it runs, "machine", "warnings",
     "figures": [{"name", "group", "status": "measured|failed|skipped", "why", "seconds", "figure": {…}}]}

`figure` is the result of `bench.figure.Figure.report`, or null.
"""

import json
import os
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import pytest

from bench.figure import SCALES, Figure, empty_report
from bench.machine import Machine
from ridelake.errors import BadInput

FORMAT = 1

Status = Literal["measured", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A benchmark: its figure, or in `why` the reason for having none. `seconds` is its total time."""

    name: str
    group: str
    status: Status
    why: str | None
    seconds: float
    figure: dict[str, Any] | None


@dataclass(slots=True)
class Record:
    scale: str
    seed: int
    machine: dict[str, Any]
    warnings: list[str]
    started_at: str
    finished_at: str | None = None
    figures: list[Entry] = field(default_factory=list)

    @classmethod
    def begin(cls, scale: str, seed: int, machine: Machine) -> "Record":
        facts = asdict(machine) | {"measured_at": machine.measured_at.isoformat()}
        return cls(scale, seed, facts, list(machine.warnings), datetime.now(UTC).isoformat())

    def finish(self) -> None:
        self.finished_at = datetime.now(UTC).isoformat()

    @property
    def failed(self) -> list[Entry]:
        return [entry for entry in self.figures if entry.status == "failed"]

    @property
    def claims(self) -> list[Entry]:
        """The entries with a verdict on a claim, ordered by the number of the claim."""
        stated = [entry for entry in self.figures if entry.figure and entry.figure["claim"]]
        return sorted(stated, key=lambda entry: entry.figure["claim"]["number"])  # type: ignore[index]

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        draft.write_text(json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=1) + "\n")
        draft.replace(path)


def read_record(path: Path) -> Record:
    """Raises BadInput if the file is missing, not a record, damaged, or of another format."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise BadInput(
            f"{path} does not exist: correct the path, or run `ridelake bench` to write a record"
        ) from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; name a record of `ridelake bench`") from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON ({error}): name a record of `ridelake bench`") from error
    if not isinstance(found, dict) or "format" not in found:
        raise BadInput(f"{path} is not a record of `ridelake bench`: name another file")
    if (format_ := found.pop("format")) != FORMAT:
        raise BadInput(
            f"{path} has record format {format_}, and this version reads {FORMAT}: run `ridelake bench` again"
        )
    try:
        _rename_old_keys(found)
        figures = [Entry(**entry) for entry in found.pop("figures")]
        return Record(**found, figures=figures)
    except (KeyError, TypeError) as error:
        raise BadInput(f"{path} is a damaged record ({error}): run `ridelake bench` again") from error


def _rename_old_keys(found: dict[str, Any]) -> None:
    """Older records have `doubts` for `warnings`. Raises KeyError for a damaged record."""
    for owner in (found, *(entry.get("figure") for entry in found["figures"])):
        if owner and "doubts" in owner:
            owner["warnings"] = owner.pop("doubts")


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


def is_skipped_at(item: pytest.Item, scale: str) -> bool:
    """Whether the benchmark is marked for a larger scale, such as `@pytest.mark.scale("full")`."""
    mark = item.get_closest_marker("scale")
    return mark is not None and SCALES[mark.args[0]].level > SCALES[scale].level
