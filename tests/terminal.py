"""The command line, as its users have it."""

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
    """What a command that must not fail says on stdout."""
    done = ridelake(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(*arguments: str | Path, exit_code: int = 2) -> str:
    """The one line that a command that must fail says on stderr."""
    done = ridelake(*arguments)
    assert done.returncode == exit_code, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1, done.stderr
    assert "internal error" not in done.stderr
    return done.stderr


def on_a_terminal(*arguments: str | Path, environment: Mapping[str, str]) -> str:
    """All that a command that must not fail shows on a terminal, escape sequences and all."""
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
