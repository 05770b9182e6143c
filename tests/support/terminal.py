"""Runs the command line as a user does."""

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND = (sys.executable, "-m", "ridelake")


def ridelake(
    *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
    )


def answer(*arguments: str | Path) -> str:
    """The stdout of a command that must succeed."""
    done = ridelake(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(*arguments: str | Path, exit_code: int = 2) -> str:
    """The single line on stderr of a command that must fail."""
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
        except OSError:  # the other side has closed
            pass
    os.close(ours)
    assert running.returncode == 0, shown.decode()
    return shown.decode()
