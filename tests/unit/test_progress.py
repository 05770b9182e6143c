"""Progress on a terminal: steps of more than two seconds are shown, with an estimate of the time left."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ridelake import progress as module
from ridelake.progress import Progress, format_elapsed, progress

MODULE = [sys.executable, "-m", "ridelake"]


def on_a_terminal(folder: Path, *arguments: str) -> tuple[str, str]:
    """The stdout of a command, and its stderr, which is a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*MODULE, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=theirs
    ) as running:
        os.close(theirs)
        shown = b""
        while True:
            try:
                block = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            shown += block
        assert running.stdout is not None
        out = running.stdout.read()
    os.close(ours)
    assert running.returncode == 0, shown
    return out.decode(), shown.decode()


@pytest.mark.slow
def test_the_copy_of_a_seed_is_shown_with_an_estimate_and_the_time_waited_is_reported(tmp_path: Path):
    out, shown = on_a_terminal(tmp_path, "seed", "--rides", "200000")
    lines = re.findall(r"copying, rides: ([\d,]+) of 200,000 \((\d+)%\), \d+ s left", shown)
    assert len(lines) > 2
    percents = [int(percent) for _, percent in lines]
    assert percents == sorted(percents)
    assert shown.endswith("\r\x1b[K"), "the progress line is not cleared"
    work, waited = (float(text) for text in re.findall(r"([\d.]+) s[ )(]", out)[:2]) if "(" in out else (0, 1)
    assert waited > work


def test_an_unknown_total_shows_the_seconds(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    shown = Progress("verifying", 0)
    now = 107.0
    assert shown.line() == "verifying: 7 s"
    shown.step("copying, rides", 400)
    now = 117.0
    shown.advance(100.4)
    assert shown.line() == "copying, rides: 100 of 400 (25%), 30 s left"
    shown.reach(500)
    assert shown.line() == "copying, rides: 400 of 400 (100%), 0 s left"
    shown.show_age(16.6)
    assert shown.line().endswith("0 s left; the snapshot holds back vacuum for 17 s")


def test_nothing_is_shown_if_stderr_is_not_a_terminal(capsys: pytest.CaptureFixture[str]):
    with progress("working", 10) as shown:
        shown.advance(5)
    assert capsys.readouterr().err == ""


def test_the_total_seconds_are_omitted_if_they_are_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_STARTED", 10.0)
    monkeypatch.setattr(module.time, "perf_counter", lambda: 16.1)
    assert format_elapsed(3.5) == "3.5 s (6.1 s in all)"
    assert format_elapsed(6.09) == "6.1 s"
