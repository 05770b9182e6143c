"""Runs the command line: in this process, in a child process, or in a terminal."""

import io
import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import IO
from unittest.mock import patch

import ridelake.__main__ as front_door
from ridelake.settings import Settings

COMMAND = (sys.executable, "-m", "ridelake")
Done = subprocess.CompletedProcess


def place_options(settings: Settings) -> list[str]:
    """--home, --lake and --dsn of the settings."""
    dsn = ["--dsn", settings.dsn] if settings.dsn else []
    return ["--home", str(settings.home), "--lake", settings.lake.root, *dsn]


def ridelake(
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    stdin: str | bytes = "",
    folder: Path | None = None,
) -> Done:
    """Run a command in this process, because a new process takes a second for its imports. `environment`
    replaces the whole environment, `folder` the current folder."""
    with ExitStack() as stack:
        if environment is not None:
            stack.enter_context(patch.dict(os.environ, environment, clear=True))
        if folder is not None:
            stack.enter_context(chdir(folder))
        outputs = stack.enter_context(_redirected(stdin.encode() if isinstance(stdin, str) else stdin))
        code = front_door._run([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, code, *outputs())


def ridelake_child(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Done:
    """Run a command in a new process, as a user does."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=folder,
        timeout=200,
    )


@contextmanager
def command_running(
    *arguments: str | Path, stdout: int | IO[str] = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """A command in a new process, which is killed at the end of the block."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=stdout, stderr=stderr, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answer(*arguments: str | Path) -> str:
    """The stdout of a command that must succeed."""
    done = ridelake(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(*arguments: str | Path, exit_code: int = 2) -> str:
    """The line on stderr of a command that must fail with one line."""
    done = ridelake(*arguments)
    assert done.returncode == exit_code, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1, done.stderr
    assert "internal error" not in done.stderr
    return done.stderr


def on_a_terminal(*arguments: str | Path, environment: Mapping[str, str]) -> str:
    """The terminal output of a command that must succeed, including escape sequences."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdin=theirs, stdout=theirs, stderr=theirs, env=dict(environment)
    ) as running:
        os.close(theirs)
        shown = b""
        try:
            while block := os.read(ours, 65536):
                shown += block
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert running.returncode == 0, shown.decode()
    return shown.decode()


@contextmanager
def _redirected(given: bytes) -> Iterator[Callable[[], tuple[str, str]]]:
    """Redirect the standard streams to files. The file descriptors are redirected, too, because libraries and
    child processes use them. Yields a function that returns the output on stdout and stderr."""
    streams = sys.stdin, sys.stdout, sys.stderr
    with ExitStack() as stack:
        stdin, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in streams)
        stdin.write(given)
        stdin.seek(0)
        for stream in streams[1:]:
            stream.flush()
        for number, file in enumerate((stdin, out, err)):
            saved = os.dup(number)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, number)
            os.dup2(file.fileno(), number)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), "utf-8")
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", write_through=True)
            for number in (1, 2)
        )
        try:
            yield lambda: (_content(out), _content(err))
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
