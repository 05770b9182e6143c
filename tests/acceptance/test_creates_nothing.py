"""A command that only reads creates no schema in a database of a user."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bare_database import bare_database, rows_of, run

import ridelake.__main__ as front_door
from oltp.cluster.server import Cluster
from oltp.store import Store
from ridelake.__main__ import COMMANDS

CREATING = {  # other tests cover these
    "seed", "load", "demo", "live", "track", "acid", "drill", "bench", "up", "down",
}  # fmt: skip
READING = {
    "doctor": [],
    "audit": [],
    "status": [],
    "engines": [],
    "epochs": [],
    "snapshot": [],
    "sync": ["--once"],
    "verify": [],
    "maintain": [],
    "simulate": ["--rides", "5"],
    "xray": [],
    "ask": ["average_price", "--engine", "postgres"],
    "sql": ["--engine", "postgres", "SELECT 1"],
    "untrack": ["shop.absent"],
    "connect": ["duckdb"],
    "catalog": ["serve", "--host", "192.0.2.1", "--token", "x"],  # not a local address, so the command exits
    "report": [],
    "compare": ["a.json", "b.json"],
}
NAMES_SEED = {"audit", "snapshot", "sync", "simulate", "ask", "sql"}


@dataclass(frozen=True)
class Done:
    returncode: int
    stderr: str


@pytest.fixture
def ridelake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """A function that runs a command in this process, in the folder of the test."""
    for name in [name for name in os.environ if name.startswith("RIDELAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str) -> Done:
        capfd.readouterr()
        code = front_door._run(list(arguments))
        return Done(code, capfd.readouterr().err)

    return run_command


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Store]:
    with bare_database(cluster) as store:
        yield store


def schemas_of(store: Store) -> list[tuple]:
    return rows_of(store, "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp' ORDER BY 1")


def test_every_command_is_either_creating_or_reading():
    assert set(COMMANDS) == CREATING | set(READING)


@pytest.mark.parametrize("command", READING)
def test_a_command_that_reads_does_not_change_a_foreign_database(
    ridelake, empty: Store, tmp_path: Path, command: str
):
    before = schemas_of(empty)
    done = ridelake(command, *READING[command], "--dsn", empty.conninfo)
    assert schemas_of(empty) == before
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    if command in NAMES_SEED:
        assert done.returncode == 2
        assert "there is no ride store in this database: run `ridelake seed`" in done.stderr
        assert not (tmp_path / ".ridelake").exists()


@pytest.mark.parametrize("command", sorted(NAMES_SEED))
def test_a_command_that_reads_starts_no_server_in_a_new_folder(ridelake, tmp_path: Path, command: str):
    done = ridelake(command, *READING[command])
    assert done.returncode == 2
    assert f"there is no ride store in {tmp_path / '.ridelake'}: run `ridelake seed`" in done.stderr
    assert not (tmp_path / ".ridelake").exists()


@pytest.mark.parametrize("command", ["load", "track", "bench"])
def test_a_failed_command_does_not_change_a_foreign_database(
    ridelake, empty: Store, tmp_path: Path, command: str
):
    before = schemas_of(empty)
    arguments = {"load": ["none.csv"], "track": ["shop.absent"], "bench": ["--table", "shop.absent"]}[command]
    assert ridelake(command, *arguments, "--dsn", empty.conninfo).returncode == 2
    assert schemas_of(empty) == before


@pytest.mark.slow
def test_a_lake_of_own_tables_does_not_change_the_database(ridelake, empty: Store, tmp_path: Path):
    run(empty, "CREATE SCHEMA shop", "CREATE TABLE shop.orders AS SELECT 1 AS id",
        "ALTER TABLE shop.orders ADD PRIMARY KEY (id)")  # fmt: skip
    before = schemas_of(empty)
    for arguments in (
        ["snapshot", "--table", "shop.orders"], ["sync", "--once"], ["status"], ["maintain"], ["verify", "1"],
        ["sql", "--engine", "postgres,duckdb", "SELECT id FROM orders"],
        ["sql", "--fresh", "SELECT id FROM orders"],
    ):  # fmt: skip
        done = ridelake(*arguments, "--dsn", empty.conninfo)
        assert done.returncode == 0, (arguments, done.stderr)
    assert schemas_of(empty) == before
