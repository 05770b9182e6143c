"""The commands of the README run, in its order."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ridelake.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands_of_the_readme() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    return [
        shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line.strip()
    ]


def test_every_make_target_of_the_readme_exists():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = [words[1] for words in commands_of_the_readme() if words[0] == "make"]
    assert {"demo", "install", "test", "bench"} <= set(named) <= set(targets)


@pytest.mark.slow
def test_the_commands_of_the_readme_run_in_its_order(tmp_path: Path):
    commands = [words[1:] for words in commands_of_the_readme() if words[0] == "ridelake"]
    assert len(commands) >= 7
    ridelake(tmp_path, "up")  # so that the server is not started for each command
    try:
        for arguments in commands:
            small = ["2000" if word == "100000" else word for word in arguments]  # fewer rides, to save time
            more = ["--rides", "300"] if arguments[0] == "simulate" else []
            done = ridelake(tmp_path, *small, *more)
            assert done.returncode == 0, f"{arguments}: {done.stderr}"
    finally:
        ridelake(tmp_path, "down")


def ridelake(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ridelake", *arguments],
        cwd=home,
        env={name: value for name, value in os.environ.items() if not name.startswith("RIDELAKE_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_readme_names_only_commands_and_files_that_are_there():
    assert set(re.findall(r"ridelake (\w+)", README)) - {"ridelake"} <= {*COMMANDS, "ask"}
    for name in re.findall(r"`((?:ridelake|oltp|lakehouse|olap|bench)/[\w/.]*)`", README):
        assert (ROOT / name).exists(), name
