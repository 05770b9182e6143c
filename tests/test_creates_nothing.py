"""A command that only reads creates no schema in a foreign database."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_database import bare_database, rows_of, run

from oltp.cluster import Cluster
from oltp.store import Store
from ridelake.__main__ import COMMANDS

CREATING = {"seed", "load", "demo", "track", "acid", "drill", "bench", "up", "down"}  # tested elsewhere
LOOKING = {
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
    "report": [],
    "compare": ["a.json", "b.json"],
}
NAMES_SEED = {"audit", "snapshot", "sync", "simulate", "ask", "sql"}


def ridelake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RIDELAKE_")}
    command = [sys.executable, "-m", "ridelake", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Store]:
    with bare_database(cluster) as store:
        yield store


def schemas_of(store: Store) -> list[tuple]:
    return rows_of(store, "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp' ORDER BY 1")


def test_every_command_is_known_to_create_or_not():
    assert set(COMMANDS) == CREATING | set(LOOKING)


@pytest.mark.parametrize("command", LOOKING)
def test_a_command_that_looks_leaves_a_foreign_database_as_it_is(empty: Store, tmp_path: Path, command: str):
    before = schemas_of(empty)
    done = ridelake(tmp_path, command, *LOOKING[command], "--dsn", empty.conninfo)
    assert schemas_of(empty) == before
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    if command in NAMES_SEED:
        assert done.returncode == 2
        assert "there is no ride store in this database: run `ridelake seed`" in done.stderr
        assert not (tmp_path / ".ridelake").exists()


@pytest.mark.parametrize("command", sorted(NAMES_SEED))
def test_a_command_that_looks_starts_no_server_in_a_new_folder(tmp_path: Path, command: str):
    done = ridelake(tmp_path, command, *LOOKING[command])
    assert done.returncode == 2
    assert f"there is no ride store in {tmp_path / '.ridelake'}: run `ridelake seed`" in done.stderr
    assert not (tmp_path / ".ridelake").exists()


@pytest.mark.parametrize("command", ["load", "track", "bench"])
def test_a_command_that_creates_and_fails_leaves_a_foreign_database_as_it_is(
    empty: Store, tmp_path: Path, command: str
):
    before = schemas_of(empty)
    arguments = {"load": ["none.csv"], "track": ["shop.absent"], "bench": ["--table", "shop.absent"]}[command]
    assert ridelake(tmp_path, command, *arguments, "--dsn", empty.conninfo).returncode == 2
    assert schemas_of(empty) == before


@pytest.mark.slow
def test_a_lake_of_own_tables_leaves_a_foreign_database_as_it_is(empty: Store, tmp_path: Path):
    run(empty, "CREATE SCHEMA shop", "CREATE TABLE shop.orders AS SELECT 1 AS id",
        "ALTER TABLE shop.orders ADD PRIMARY KEY (id)")  # fmt: skip
    before = schemas_of(empty)
    for arguments in (
        ["snapshot", "--table", "shop.orders"], ["sync", "--once"], ["status"], ["maintain"], ["verify", "1"],
        ["sql", "--engine", "postgres,duckdb", "SELECT id FROM orders"],
        ["sql", "--fresh", "SELECT id FROM orders"],
    ):  # fmt: skip
        done = ridelake(tmp_path, *arguments, "--dsn", empty.conninfo)
        assert done.returncode == 0, (arguments, done.stderr)
    assert schemas_of(empty) == before
