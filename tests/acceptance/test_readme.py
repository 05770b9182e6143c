"""The README is short, its commands run in order, and the files that it names exist."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import psycopg
import pytest
from terminal import ridelake

from oltp.cluster.server import Cluster
from ridelake.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
WORDS_MAX = 900

# Replacements that make the commands faster.
LESS = {"--rides 100000": "--rides 2000", "simulate": "simulate --rides 300", "--every 10": "--once"}
SMALLER = "|".join(LESS)
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RIDELAKE_")}


def commands_of_the_readme() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    return [
        shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line.strip()
    ]


def test_the_readme_is_short():
    words = [word for word in README.split() if re.search(r"\w", word)]
    assert len(words) <= WORDS_MAX


def test_every_make_target_of_the_readme_exists():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = re.findall(r"\bmake (\w+)", README)
    assert {"demo", "install", "clean"} <= set(named) <= set(targets)


@pytest.mark.slow
def test_the_commands_of_the_readme_run_in_its_order(tmp_path: Path):
    commands = [words[1:] for words in commands_of_the_readme() if words[0] == "ridelake"]
    assert len(commands) >= 7
    run(tmp_path, "up")  # one server for all commands
    try:
        with psycopg.connect(Cluster(tmp_path / ".ridelake/postgres").conninfo("ridelake")) as connection:
            connection.execute("CREATE TABLE public.orders (id int PRIMARY KEY, price numeric(10, 2))")
            connection.execute("INSERT INTO public.orders VALUES (1, 9.50)")
        for arguments in commands:
            small = re.sub(SMALLER, lambda found: LESS[found[0]], shlex.join(arguments))
            done = run(tmp_path, *shlex.split(small))
            assert done.returncode == 0, f"{arguments}: {done.stderr}"
    finally:
        run(tmp_path, "down")


@pytest.mark.slow
def test_the_files_are_opened_without_ridelake_as_documented(tmp_path: Path):
    page = (ROOT / "docs/lake.md").read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    count = ("sql", "SELECT COUNT(*) FROM rides WHERE fare_cents > 5000", "--format", "csv")
    for arguments in (("seed", "--rides", "2000"), ("snapshot",), count):
        counted = ridelake(*arguments, environment=ENVIRONMENT, folder=tmp_path)
        assert counted.returncode == 0, counted.stderr
    rows = counted.stdout.split()[1]
    assert int(rows) > 0
    done = execute(tmp_path, "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [rows, rows]


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {modules}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import bench.commands.demo, bench.demo, bench.report.page
"""


@pytest.mark.slow
def test_demo_and_report_need_the_base_packages_only(tmp_path: Path):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = [re.split(r"[\[>=]", name)[0].replace("-", "_") for names in extras.values() for name in names]
    modules = {*named} - {"ridelake"}
    assert {"pytest", "marimo", "datafusion"} <= modules
    done = execute(tmp_path, "-c", WITHOUT.format(modules=sorted(modules)))
    assert done.returncode == 0, done.stderr


def run(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return execute(home, "-m", "ridelake", *arguments)


def execute(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=home,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_readme_lists_every_command():
    assert {words[1] for words in commands_of_the_readme() if words[0] == "ridelake"} <= set(COMMANDS)
    (table,) = re.findall(r"^## Commands\n(.*?)^## ", README, flags=re.MULTILINE | re.DOTALL)
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert sorted(re.findall(r"`(\w+)`", "".join(rows))) == sorted(COMMANDS)


def test_the_files_that_the_readme_names_exist():
    names = re.findall(r"`((?:ridelake|oltp|lakehouse|olap|bench|tests|docs)/[\w/.-]+)`", README)
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README) + re.findall(r'src="([^"]+)"', README)
    for name in [*names, *links]:
        assert (ROOT / name).exists(), name
