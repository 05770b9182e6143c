"""Shell completion offers existing names."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from click.shell_completion import ShellComplete
from terminal import place_options

from lakehouse.engines import ENGINE_NAMES
from olap.options import FORMATS
from olap.question import questions
from ridelake.__main__ import ridelake
from ridelake.settings import LakeAddress


def completions(settings, *words: str) -> list[str]:
    *before, begun = words
    shell = ShellComplete(ridelake, {}, "ridelake", "_RIDELAKE_COMPLETE")
    return [item.value for item in shell.get_completions([*place_options(settings), *before], begun)]


def test_names_of_all_kinds_are_completed(settings):
    assert completions(settings, "ask", "average_") == [n for n in questions() if n.startswith("average_")]
    assert completions(settings, "ask", "--engine", "") == [*ENGINE_NAMES, "all"]
    assert set(completions(settings, "sql", "--engine", "duckdb,po")) == {"duckdb,postgres", "duckdb,polars"}
    assert completions(settings, "sql", "--format", "j") == [name for name in FORMATS if name.startswith("j")]
    assert completions(settings, "sql", "SELECT * FROM ri") == [
        "SELECT * FROM riders", "SELECT * FROM rides", "SELECT * FROM RideTable",
    ]  # fmt: skip


def test_completion_before_the_first_epoch_is_not_an_error(settings, tmp_path):
    nowhere = replace(settings, lake=LakeAddress.at(tmp_path / "none"))
    assert completions(nowhere, "sql", "SELECT * FROM ride") == ["SELECT * FROM RideTable"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_command_in_the_help_prints_a_completion_script(shell: str):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv[0] = 'ridelake'; from ridelake.__main__ import main; main()",
        ],
        env={**os.environ, "_RIDELAKE_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_RIDELAKE_COMPLETE" in done.stdout
