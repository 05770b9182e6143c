"""Runs the benchmarks for `ridelake bench`: pytest without its terminal output, with a plugin that writes the
record."""

import difflib
import os
import re
from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import monotonic
from typing import Any

import pytest

import bench
from bench.custom_table.subject import UserTable
from bench.env import SEED
from bench.figure import SCALES, Figure
from bench.machine import this_machine
from bench.record import Entry, Record, write_document
from ridelake.errors import ProofFailed, UsageError, first_line

# Suppress the output of pytest, and write nothing into the current folder.
ARGUMENTS = (
    "--import-mode=importlib",
    "--strict-markers",
    "-pno:terminal",
    "-pno:cacheprovider",
    "--benchmark-quiet",
    f"--benchmark-storage=file://{os.devnull}",  # the default creates ./.benchmarks
    "-opython_files=bench_*.py",
    "-opython_functions=bench_*",
    "-otimeout=900",
    "-Wignore:Benchmark fixture was not used",  # in a skipped benchmark
)


class Recorder:
    """Adds what failed or was skipped to the JSON of pytest-benchmark, and writes it after each benchmark if
    `path` is given. Calls `on_entry` with each new entry."""

    def __init__(
        self, record: Record, path: Path | None = None, on_entry: Callable[[Entry], None] = lambda entry: None
    ) -> None:
        self.record = record
        self._path = path
        self._on_entry = on_entry
        self._started: dict[str, float] = {}
        self._machine_and_commit: dict[str, Any] = {}  # machine and commit, added to each document
        self.selected = 0
        self.import_error: str | None = None
        self.interrupted = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.import_error = str(report.longrepr).strip().splitlines()[-1].removeprefix("E ").strip()

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
        """An interrupt within a hook of another plugin. True: pytest does not print the traceback."""
        error: BaseException | None = excinfo.value
        while error is not None and not isinstance(error, KeyboardInterrupt):
            error = error.__cause__ or error.__context__
        self.interrupted = error is not None
        return self.interrupted

    def pytest_benchmark_update_machine_info(self, machine_info: dict[str, Any]) -> None:
        machine_info["ridelake"] = asdict(self.record.machine)

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        self.record.add_to(output_json)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        # Not in the collection hook, which is also called for an empty selection: a misspelt name must not
        # overwrite the record of another run.
        self.selected = len(session.items)
        if self.selected and self._path is not None:
            config: Any = session.config
            commit = config.hook.pytest_benchmark_generate_commit_info(config=config)
            self._machine_and_commit = {
                "machine_info": config._benchmarksession.get_machine_info(),
                "commit_info": commit,
            }
            self._write(config)

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
            self._add_entry(item, call, report)
        return report

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            self.record.finish()
        self._write(session.config)

    def _add_entry(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        benchmark = getattr(item, "funcargs", {}).get("benchmark")
        extra: dict[str, Any] = getattr(benchmark, "extra_info", {})
        extra["seconds"] = monotonic() - self._started.get(item.nodeid, monotonic())
        why = None
        if report.skipped:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        elif report.failed and call.excinfo:
            error = call.excinfo.value
            why = f"{type(error).__name__}: {first_line(error)}"
        entry = Entry(
            name=item.nodeid,
            group=getattr(benchmark, "group", None) or item.name,
            status="measured" if report.passed else "skipped" if report.skipped else "failed",
            why=why,
            seconds=extra["seconds"],
            figure=extra.get("figure", {}) if report.passed else {},
        )
        # A benchmark that fails in its teardown was recorded as measured before: replace that entry.
        self.record.figures = [kept for kept in self.record.figures if kept.name != entry.name]
        self.record.figures.append(entry)
        self._write(item.config)
        self._on_entry(entry)

    def _write(self, config: Any) -> None:
        if self._path is None or not self.selected:
            return
        timed = [one for one in config._benchmarksession.benchmarks if one]  # not an interrupted one
        document = config.hook.pytest_benchmark_generate_json(
            config=config, benchmarks=timed, include_data=True, **self._machine_and_commit
        )
        config.hook.pytest_benchmark_update_json(config=config, benchmarks=timed, output_json=document)
        write_document(document, self._path)


def is_skipped_at(item: pytest.Item, scale: str) -> bool:
    """Whether the benchmark is marked for a larger scale, such as `@pytest.mark.scale("full")`."""
    mark = item.get_closest_marker("scale")
    return mark is not None and SCALES[mark.args[0]].level > SCALES[scale].level


def is_not_named(item: pytest.Item, selection: str) -> bool:
    """Whether the benchmark runs only if it is named, `@pytest.mark.named("movers")`, and is not."""
    mark = item.get_closest_marker("named")
    return mark is not None and mark.args[0] not in selection


def run(
    scale: str,
    path: Path,
    only: str | None,
    subject: UserTable | None,
    on_entry: Callable[[Entry, int, int], None],
) -> Record:
    """Run the benchmarks, or those of a user's table, and write the record to `path`. Calls `on_entry` with
    each entry, its number and the number of benchmarks. Raises UsageError if `only` selects nothing or the
    record cannot be written. An interrupt leaves a valid record of the benchmarks that finished."""
    _check_writable(path)
    folder = str(Path(bench.__file__).parent)
    record = Record.begin(scale, SEED, this_machine())
    recorder = Recorder(record, path, lambda entry: on_entry(entry, len(record.figures), recorder.selected))
    selection = ["-k", only] if only else []
    arguments = [*ARGUMENTS, f"--rootdir={Path(folder).parent}", f"--scale={scale}", *selection, folder]
    exit_code = pytest.main(arguments, plugins=[recorder, *([subject] if subject else [])])
    if recorder.import_error is not None:
        raise ProofFailed(f"✗ cannot import the benchmarks: {recorder.import_error}")
    if exit_code == pytest.ExitCode.INTERRUPTED or recorder.interrupted:
        raise KeyboardInterrupt
    if exit_code == pytest.ExitCode.USAGE_ERROR:
        raise UsageError(f"--only '{only}' is not a valid expression: use words with and, or, not")
    if exit_code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError(f"no benchmark matches --only '{only}': {_nearest(only or '', folder)}")
    if exit_code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise ProofFailed(f"✗ cannot run the benchmarks: pytest ended with {exit_code!r}")
    return record


def _nearest(only: str, folder: str) -> str:
    """Benchmark names similar to a word of the selection, or examples of names."""
    names = [
        name
        for path in Path(folder).rglob("bench_*.py")
        for name in (path.stem, *re.findall(r"^def (bench_\w+)", path.read_text("utf-8"), re.MULTILINE))
    ]
    short_names = {name.removeprefix("bench_"): name for name in names}
    words = [word.removeprefix("bench_") for word in re.findall(r"\w+", only)]
    near = [short_names[name] for word in words for name in difflib.get_close_matches(word, short_names, n=2)]
    if near:
        return f"did you mean {' or '.join(dict.fromkeys(near))}?"
    return f"omit it, or give words of their names, such as {', '.join(sorted(set(names))[:3])}"


def _check_writable(path: Path) -> None:
    """Check that the file can be written, before the run, which takes minutes. Raises UsageError if not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}."):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}): choose another file with --record"
        ) from error
