"""The command line: help, one-line errors, exit codes."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest
import terminal
from terminal import Done

import ridelake.__main__ as front_door
from oltp.store import Store
from ridelake.__main__ import COMMANDS
from ridelake.errors import CannotConnect, RidelakeError, UsageError
from ridelake.settings import LakeAddress, Settings

MODULE = [sys.executable, "-m", "ridelake"]
SLOW = pytest.mark.slow


def environment() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RIDELAKE_")}
    return {**ours, "COLUMNS": "100", "NO_COLOR": "1"}


def ridelake(folder: Path, *arguments: str) -> Done:
    return terminal.ridelake(*arguments, environment=environment(), folder=folder)


def in_a_process(folder: Path, *arguments: str) -> Done:
    return terminal.ridelake_child(*arguments, environment=environment(), folder=folder)


@pytest.fixture
def in_process(tmp_path: Path) -> Callable[..., Done]:
    """A function that runs a command in the folder of the test."""
    return partial(ridelake, tmp_path)


@pytest.fixture(scope="module")
def where(seeded_store_once: Store, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for a store of 2,000 rides and a lake with epoch 1 of it."""
    home = tmp_path_factory.mktemp("front-door")
    options = ["--home", str(home), "--dsn", seeded_store_once.conninfo]
    assert ridelake(home, "snapshot", *options).returncode == 0
    return options


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(in_process, tmp_path: Path, command: str):
    done = in_process(command, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert re.search(r"^  [A-Z]\w+", done.stdout, flags=re.MULTILINE), "the help has no sentence"
    assert "Global options: see `ridelake --help`." in done.stdout
    assert "--spark-master" not in done.stdout
    assert "RANGE" not in done.stdout, "the help must show a number as N"
    assert ("2026-07-01 is a date" in done.stdout) == (command in ("sql", "ask")), (
        "only sql and ask must explain the values of -p"
    )
    assert not (tmp_path / ".ridelake").exists(), "help has created a folder"


def test_without_a_command_the_help_lists_every_command(tmp_path: Path):
    shown = in_a_process(tmp_path).stdout
    assert "Start with `ridelake demo`" in shown
    assert all(re.search(rf"^  {command} ", shown, flags=re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "expected"),
    [
        (["nonsense"], 2, "there is no command"),
        (["seed", "--rides", "0"], 2, "--rides"),
        (["seed", "--nope"], 2, "--nope"),
        (["simulate", "--rides", "5", "--seconds", "5"], 2, "exclude each other"),
        (["simulate"], 2, "run `ridelake seed`"),
        (["acid", "--think-ms", "nan"], 2, "--think-ms must be from 0 to 1000, not nan"),
        (["acid", "--rounds", "99999999999999999"], 2, "--rounds"),
        (["acid", "--drivers", "1000000000"], 2, "--drivers"),
        (["acid", "--hermitage", "--rounds", "25"], 2, "--rounds cannot be used with --hermitage"),
        (["demo", "some.parquet"], 2, "--from"),
        (["demo", "--from", "absent.parquet"], 2, "absent.parquet"),
        (["load", "absent.parquet"], 2, "absent.parquet"),
        (["audit", "--dsn", "host=/nowhere"], 3, "cannot connect to Postgres"),
        (["audit", "--dsn", "???"], 3, "not a connection string"),
        (["up", "--dsn", "host=/nowhere"], 2, "leave out --dsn"),
        (["sql", "SELECT 1"], 2, "run `ridelake snapshot`"),
        (["sql", "SELECT 1", "--engine", "oracle"], 2, "oracle"),
        (["ask", "averge_price"], 2, "average_price"),
        (["snapshot", "--lake", "/dev/null/lake"], 2, "--lake"),
        (["seed", "--home", "/dev/null/home"], 2, "--home"),
        (["catalog", "server"], 2, "'server' is not 'serve'"),
        (["catalog", "serve", "--host", "0.0.0.0"], 2, "pass --token or RIDELAKE_CATALOG_TOKEN"),
        (["catalog", "serve", "--lake", "/dev/null/lake"], 2, "--lake"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    in_process, arguments: list[str], exit_code: int, expected: str
):
    done = in_process(*arguments)
    assert done.returncode == exit_code, done.stderr
    assert expected in done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("ridelake: ")
    assert "Traceback" not in done.stderr


def test_the_engine_s_message_for_invalid_sql_is_shown(where: list[str], tmp_path: Path):
    done = in_a_process(tmp_path, "sql", "SELECT prise FROM RideTable", *where)
    assert done.returncode == 1
    assert "prise" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("engine", ["postgres", "duckdb", "polars", pytest.param("all", marks=SLOW)])
def test_the_textbook_question_has_one_answer(
    where: list[str], seeded_store_once: Store, tmp_path: Path, engine: str
):
    query = "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"
    done = ridelake(tmp_path, "sql", query, "--engine", engine, "--format", "csv", *where)
    assert done.returncode == 0, done.stderr
    expected = _average_price(seeded_store_once)
    assert float(done.stdout.splitlines()[1]) == pytest.approx(expected, rel=1e-12)


def _average_price(store: Store) -> float:
    """Computed from the rows in exact arithmetic."""
    exact = """
        SELECT sum(fare_cents)::numeric / count(*) / 100 AS price FROM rides
        WHERE city_id = 1 AND status = 'completed' AND extract(month FROM requested_local) = 7"""
    with store.connect() as connection:
        row = connection.execute(exact).fetchone()
    assert row is not None
    return float(row[0])


def test_settings_may_precede_or_follow_the_command_or_be_in_the_environment(tmp_path: Path):
    assert ridelake(tmp_path, "--home", "one", "status").stdout.splitlines()[0].endswith("/one")
    assert ridelake(tmp_path, "status", "--home", "two").stdout.splitlines()[0].endswith("/two")
    assert Settings.read({"RIDELAKE_HOME": "/a", "RIDELAKE_LAKE": "/b"}).lake == LakeAddress.at("/b")
    assert Settings.read({"RIDELAKE_HOME": "/a"}, home="/c").lake == LakeAddress.at("/c/lake")
    assert Settings.read({"RIDELAKE_DSN": ""}).dsn is None


def test_debug_shows_the_traceback(tmp_path: Path):
    done = ridelake(tmp_path, "audit", "--dsn", "host=/nowhere", "--debug")
    assert "Traceback" in done.stderr
    assert done.returncode == CannotConnect.exit_code


def test_every_error_has_an_exit_code_of_the_convention():
    def family(error: type[RidelakeError]) -> set[type[RidelakeError]]:
        return {error}.union(*(family(child) for child in error.__subclasses__()))

    assert {error.exit_code for error in family(RidelakeError)} == {1, 2, 3, 4}


def test_ctrl_c_during_imports_is_reported_in_one_line(tmp_path: Path):
    # The current folder is first on the path.
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    done = in_a_process(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (130, "ridelake: interrupted\n")


@pytest.mark.parametrize(
    ("sqlstate", "exit_code", "expected"),
    [
        (None, 3, "lost the connection to Postgres (no words)"),
        ("08006", 3, "lost the connection to Postgres (no words)"),
        ("57P01", 3, "lost the connection to Postgres (no words)"),
        ("57014", 1, "Postgres error: no words (SQLSTATE 57014)"),  # statement_timeout
        ("53100", 1, "a disk is full (no words): free some space"),  # disk_full
    ],
)
def test_only_a_lost_connection_is_reported_as_lost(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    sqlstate: str | None,
    exit_code: int,
    expected: str,
):
    def fail(*arguments: object, **more: object) -> None:
        error = psycopg.OperationalError("no words\nCONTEXT: many more")
        error.sqlstate = sqlstate
        raise error

    monkeypatch.setattr(front_door.ridelake, "main", fail)
    assert front_door._run(["audit"]) == exit_code
    output = capsys.readouterr().err
    assert expected in output
    assert output.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=SLOW)])
@pytest.mark.parametrize("after_seconds", [pytest.param(0.1, marks=SLOW), 1.5, pytest.param(4, marks=SLOW)])
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, stop: signal.Signals, after_seconds: float):
    demo = subprocess.Popen(
        [*MODULE, "demo", "--quick"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    assert demo.stdout.readline().startswith("1. ")  # the demo has begun
    time.sleep(after_seconds)
    demo.send_signal(stop)
    _, output = demo.communicate(timeout=60)
    assert demo.returncode == 128 + stop, output
    assert "Traceback" not in output, output
    until = time.monotonic() + 10
    while left_in(tmp_path) and time.monotonic() < until:
        time.sleep(0.1)
    assert left_in(tmp_path) == []


SLOW_IMPORT = """
import signal, sys, time
import ridelake.__main__ as front_door
from oltp.store import Store

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "slow":
            signal.raise_signal(signal.SIGTERM)
            print("imported")

def command(*_, **__):
    try:
        import slow
    except ImportError:
        time.sleep(10)

sys.meta_path.insert(0, Slow())
front_door.ridelake.main = command
front_door.main()
"""


def test_an_interrupt_waits_only_for_the_current_import(tmp_path: Path):
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SLOW_IMPORT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "imported\n"), done.stderr
    assert done.stderr == "ridelake: interrupted\n"
    assert time.monotonic() - began < 8


@pytest.mark.slow
def test_a_server_killed_during_a_simulation_is_one_line_and_the_audit_passes(tmp_path: Path):
    assert ridelake(tmp_path, "seed", "--rides", "500").returncode == 0
    command = [*MODULE, "simulate", "--seconds", "60", "--clients", "4"]
    running = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pid_file = tmp_path / ".ridelake" / "postgres" / "data" / "postmaster.pid"
    until = time.monotonic() + 30
    while not pid_file.exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(2.5)
    os.kill(int(pid_file.read_text().split("\n", 1)[0]), signal.SIGKILL)
    _, output = running.communicate(timeout=60)
    assert running.returncode == CannotConnect.exit_code, output
    assert "Traceback" not in output
    assert "lost the connection to Postgres" in output
    assert re.search(r"; [\d,]+ requests were answered before that, [\d,]+ assigned", output)
    assert "p50 0.00 ms" not in output
    assert ridelake(tmp_path, "audit").returncode == 0


def left_in(folder: Path) -> list[str]:
    """The command lines of the processes that have the folder in their arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if str(folder) in command:
            found.append(command)
    return found


@pytest.mark.slow
def test_a_closed_pipe_is_not_an_error(where: list[str], tmp_path: Path):
    done = subprocess.run(
        f"{shlex.join([*MODULE, 'sql', 'SELECT * FROM rides', '--format', 'csv', *where])} | head -1",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("ride_id")
    assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize(
    "arguments", [["ask"], pytest.param(["status"], marks=SLOW)], ids=["a table", "lines"]
)
def test_a_pipe_that_was_closed_before_the_answer_is_not_an_error(tmp_path: Path, arguments: list[str]):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*MODULE, *arguments], cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_invalid_spark_master_is_refused():
    assert Settings.read({}).spark_master is None
    assert Settings.read({"RIDELAKE_SPARK_MASTER": "spark://h:7077"}).spark_master == "spark://h:7077"
    both = Settings.read({"RIDELAKE_SPARK_MASTER": "sc://h"}, spark_master="local[2]")
    assert both.spark_master == "local[2]"
    for wrong in ("h:7077", "spark://h", "local[0]", "yarn"):
        with pytest.raises(UsageError, match="--spark-master takes"):
            Settings.read({}, spark_master=wrong)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["sanpshot"], "did you mean snapshot?"),
        (["help", "sanpshot"], "did you mean snapshot?"),
        (["sql", "SELECT 1", "--engine", "all,duckbd"], "there is no engine 'duckbd': did you mean duckdb?"),
        (["sql", "SELECT 1", "--engine", "duckdb,x"], "there is no engine 'x': choose from"),
        (["ask", "driver-rankin"], "did you mean driver_ranking"),
        (["ask", "driver_ranking", "-p", "alfa=1"], "did you mean alpha?"),
        (["ask", "driver_ranking", "--format", "jsno"], "did you mean json"),
        (["ask", "--engin", "all"], "'--engine'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_misspelt_name_gets_a_suggestion(in_process, arguments: list[str], meant: str):
    done = in_process(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert meant in done.stderr


def test_help_is_a_command(in_process):
    assert in_process("help").stdout == in_process("--help").stdout
    assert in_process("help", "sql").stdout == in_process("sql", "--help").stdout


@pytest.mark.slow
def test_the_psql_line_of_up_connects_in_a_new_folder(tmp_path: Path):
    try:
        output = ridelake(tmp_path, "up").stderr
        conninfo = re.search(r"psql '(.*)'", output)
        assert conninfo, output
        with psycopg.connect(conninfo[1]) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == ("ridelake",)
    finally:
        ridelake(tmp_path, "down")


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_help_lists_every_command_once_in_a_group_and_cuts_no_description(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert front_door._run(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith(":") and not line.startswith(" ")] == [
        "Options:", "Try:", "Book:", "Lake:", "Ask:", "Measure:", "Run:",
    ]  # fmt: skip
    assert not any(line.endswith("...") for line in lines[1:])
    listed = [line.split()[0] for line in lines if re.match(r"  [a-z]+  +[A-Z]", line)]
    assert sorted(listed) == sorted(COMMANDS)


def test_global_options_may_follow_the_command(tmp_path, capsys):
    output = []
    for arguments in (["epochs", "--lake", "none"], ["--lake", "none", "epochs"]):
        code = front_door._run([argument.replace("none", str(tmp_path / "none")) for argument in arguments])
        output.append((code, *capsys.readouterr()))
    assert output[0] == output[1]
