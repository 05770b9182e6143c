"""Runs the benchmarks for `ridelake bench`: pytest without its terminal output."""

import difflib
import os
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

import bench
from bench.custom_table.subject import UserTable
from bench.machine import this_machine
from bench.record import Entry, Record, Recorder
from ridelake.errors import ProofFailed, UsageError

SEED = 1
# Prints our lines instead of pytest's, and writes nothing into the current folder.
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
    _refuse_unwritable(path)
    folder = str(Path(bench.__file__).parent)
    record = Record.begin(scale, SEED, this_machine())
    recorder = Recorder(record, path, lambda entry: on_entry(entry, len(record.figures), recorder.selected))
    selection = ["-k", only] if only else []
    arguments = [*ARGUMENTS, f"--rootdir={Path(folder).parent}", f"--scale={scale}", *selection, folder]
    exit_code = pytest.main(arguments, plugins=[recorder, *([subject] if subject else [])])
    if exit_code == pytest.ExitCode.INTERRUPTED:
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


def _refuse_unwritable(path: Path) -> None:
    """Raises UsageError. Checked before the run, which takes minutes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}."):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}): choose another file with --record"
        ) from error
