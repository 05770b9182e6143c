"""The benchmarks as `ridelake bench` runs them: pytest's, without its screen."""

import difflib
import os
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

import bench
from bench.machine import this_machine
from bench.own.subject import Subject
from bench.record import Entry, Record
from bench.recorder import Recorder
from ridelake.errors import ProofFailed, UsageError

SEED = 1
# Our own lines instead of pytest's; nothing written beside the user's files; the project's own rules.
ARGUMENTS = (
    "--import-mode=importlib",
    "--strict-markers",
    "-pno:terminal",
    "-pno:cacheprovider",
    "--benchmark-quiet",
    f"--benchmark-storage=file://{os.devnull}",  # the default makes a folder .benchmarks in the current one
    "-opython_files=bench_*.py",
    "-opython_functions=bench_*",
    "-otimeout=900",
    "-Wignore:Benchmark fixture was not used",  # where a benchmark is skipped, which it says itself
)


def run(
    scale: str,
    path: Path,
    only: str | None,
    subject: Subject | None,
    told: Callable[[Entry, int, int], None],
) -> Record:
    """Measure, keep the record at `path`, and give it: all there is, or a table of the user's. `told` hears
    of every benchmark, its number and how many there are. Raises UsageError if `only` selects none, or the
    record cannot be written; an interrupt leaves a valid partial record."""
    _refuse_unwritable(path)
    folder = str(Path(bench.__file__).parent)
    record = Record.begin(scale, SEED, this_machine())
    recorder = Recorder(record, path, lambda entry: told(entry, len(record.figures), recorder.selected))
    selection = ["-k", only] if only else []
    arguments = [*ARGUMENTS, f"--rootdir={Path(folder).parent}", f"--scale={scale}", *selection, folder]
    exit_code = pytest.main(arguments, plugins=[recorder, *([subject] if subject else [])])
    if exit_code == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if exit_code == pytest.ExitCode.USAGE_ERROR:
        raise UsageError(f"--only '{only}' is no selection: write words, and between them and, or, not")
    if exit_code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError(f"no benchmark is selected by --only '{only}': {_nearest(only or '', folder)}")
    if exit_code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise ProofFailed(f"✗ the benchmarks could not be run: pytest ended with {exit_code!r}")
    return record


def _nearest(only: str, folder: str) -> str:
    """Names of benchmarks that are like a word of the selection, or how to see all of them."""
    names = [
        name
        for path in Path(folder).rglob("bench_*.py")
        for name in (path.stem, *re.findall(r"^def (bench_\w+)", path.read_text("utf-8"), re.MULTILINE))
    ]
    bare = {name.removeprefix("bench_"): name for name in names}
    words = [word.removeprefix("bench_") for word in re.findall(r"\w+", only)]
    near = [bare[name] for word in words for name in difflib.get_close_matches(word, bare, n=2)]
    if near:
        return f"did you mean {' or '.join(dict.fromkeys(near))}?"
    return f"leave it out, or give words of their names, such as {', '.join(sorted(set(names))[:3])}"


def _refuse_unwritable(path: Path) -> None:
    """Before minutes are spent on what could not be kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}."):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}): choose another file with --record"
        ) from error
