"""The command `acid`: its output, its exit code for an anomaly of the store or an unexpected result of an
isolation level, and the cleanup of its database."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from oltp.acid.isolation import read_cases
from oltp.acid.strategies import STRATEGIES, Anomaly, StoreTarget
from oltp.cluster.server import Cluster
from oltp.commands.acid import acid as command
from oltp.commands.acid import riders_of
from oltp.scratch import PREFIX, scratch_on_server
from ridelake.errors import CannotConnect, ProofFailed
from ridelake.settings import LakeAddress, Settings

TENANT = f"tenant_of_acid_{os.getpid()}"


@pytest.fixture(scope="module")
def tenant(cluster: Cluster) -> Iterator[str]:
    """A DSN of a role that can only create databases. All its databases are from `acid`."""
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {TENANT} LOGIN CREATEDB")
        yield make_conninfo(cluster.conninfo("postgres"), user=TENANT)
        for name in left_behind(cluster):
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.execute(f"DROP ROLE {TENANT}")


def left_behind(cluster: Cluster) -> list[str]:
    """The databases of the tenant."""
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        rows = admin.execute(
            "SELECT datname FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba WHERE rolname = %s",
            (TENANT,),
        )
        return [name for (name,) in rows.fetchall()]


def acid(home: Path, dsn: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ridelake", "acid", "--home", str(home), "--dsn", dsn, *arguments]
    environment = {**os.environ, "COLUMNS": "100"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_json_output_is_complete_and_no_database_remains(cluster: Cluster, tenant: str, tmp_path: Path):
    run = acid(tmp_path, tenant, "--rivals", "6", "--drivers", "2", "--rounds", "2", "--json")
    out, error = run.communicate(timeout=60)
    assert run.returncode == 0, error
    report = json.loads(out)
    assert report["store_holds"] is True
    assert report["rules"]["riders"] == 3
    assert [one["strategy"] for one in report["strategies"]] == [one.name for one in STRATEGIES]
    assert set(report["strategies"][0]["anomalies"]) == set(Anomaly)
    assert report["strategies"][0]["isolation"] is None
    assert report["strategies"][-1]["audit"]["passed"] is True
    for one in report["strategies"]:
        assert {"aborts", "retries", "rides", "rides_per_second", "as_said", "why"} <= set(one)
    assert left_behind(cluster) == []
    assert list(tmp_path.iterdir()) == [], "the command has created files, although it has a DSN"


def test_hermitage_json_output_is_complete_and_no_database_remains(
    cluster: Cluster, tenant: str, tmp_path: Path
):
    run = acid(tmp_path, tenant, "--hermitage", "--json")
    out, error = run.communicate(timeout=60)
    assert run.returncode == 0, error
    report = json.loads(out)
    assert report["as_expected"] is True
    assert len(report["cases"]) == 14
    skew = next(case for case in report["cases"] if case["case"] == "G2-item")
    assert [level["seen"] for level in skew["levels"].values()] == ["anomaly", "anomaly", "40001"]
    assert left_behind(cluster) == []


@pytest.mark.slow
def test_ctrl_c_leaves_no_database(cluster: Cluster, tenant: str, tmp_path: Path):
    run = acid(tmp_path, tenant, "--rounds", "1000")
    wait_until_connected(cluster)
    run.send_signal(signal.SIGINT)
    _, error = run.communicate(timeout=20)
    assert run.returncode == 130, error
    assert "Traceback" not in error
    until = time.monotonic() + 10
    while left_behind(cluster) and time.monotonic() < until:
        time.sleep(0.1)  # the server completes the DROP after the client has exited
    if left_behind(cluster):  # on an overloaded machine, the process may exit before the DROP
        with scratch_on_server(tenant):
            pass
    assert left_behind(cluster) == []


def test_the_database_of_a_killed_run_is_dropped_by_the_next(cluster: Cluster, tenant: str, tmp_path: Path):
    run = acid(tmp_path, tenant, "--rounds", "1000")
    wait_until_connected(cluster)
    run.kill()
    run.communicate(timeout=20)
    until = time.monotonic() + 20
    while left_behind(cluster) and time.monotonic() < until:  # its sessions end a little later
        with scratch_on_server(tenant):
            pass
    assert left_behind(cluster) == []


def test_the_database_of_an_active_run_is_not_dropped_by_another(cluster: Cluster, tenant: str):
    with scratch_on_server(tenant), scratch_on_server(tenant):
        assert len(left_behind(cluster)) == 2
    assert left_behind(cluster) == []


def test_a_role_without_createdb_gets_one_line(cluster: Cluster, tenant: str, tmp_path: Path):
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER ROLE {TENANT} NOCREATEDB")
    try:
        run = acid(tmp_path, tenant)
        out, error = run.communicate(timeout=30)
    finally:
        with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
            admin.execute(f"ALTER ROLE {TENANT} CREATEDB")
    assert run.returncode == CannotConnect.exit_code
    assert out == ""
    assert error.count("\n") == 1
    assert "CREATEDB" in error


def test_an_anomaly_of_the_store_fails_the_command(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(StoreTarget, "next_round", lambda self: None)  # holds are never captured
    done = run_in_this_process(cluster, "--rivals", "2", "--rounds", "1")
    assert isinstance(done.exception, ProofFailed)
    assert "✗ store" in done.output


def test_an_unexpected_result_of_a_level_fails_the_command(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    cases = read_cases("""
case odd: expects the impossible
    T1: SELECT id, value FROM test WHERE id = 1 | 1=>99
    T1: COMMIT
    verdict                                     | prevented""")
    monkeypatch.setattr("oltp.acid.isolation.hermitage_cases", lambda: cases)
    done = run_in_this_process(cluster, "--hermitage")
    assert isinstance(done.exception, ProofFailed)
    assert "0 of 3 results are as expected" in done.output
    assert "→ 1=>10, expected 1=>99" in " ".join(done.output.split())


@pytest.mark.parametrize("columns", [60, 80, pytest.param(100, marks=pytest.mark.slow)])
def test_tables_break_no_word_at_any_terminal_width(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, columns: int
):
    monkeypatch.setenv("COLUMNS", str(columns))
    done = run_in_this_process(cluster, "--rivals", "3", "--rounds", "1", "--think-ms", "0")
    assert done.exception is None
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= columns
    lines = done.stdout.split("\n\n")[1].splitlines()
    words = {word.strip(",") for line in lines for word in line.split()}
    assert {word for one in STRATEGIES for word in one.name.replace(",", "").split()} <= words
    assert {"driver", "twice", "paid", "unpaid", "debit", "lost", "rides"} <= words
    assert ("retries" in words) == (columns >= 80)


@pytest.mark.parametrize("columns", [60, 80])
def test_the_matrix_breaks_no_word_at_any_terminal_width(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, columns: int
):
    monkeypatch.setenv("COLUMNS", str(columns))
    done = run_in_this_process(cluster, "--hermitage")
    table = done.stdout.split("\n\n")[0]
    assert {"SERIALIZABLE", "REPEATABLE", "COMMITTED", "G-single-write", "prevented"} <= set(table.split())
    assert max(len(line.rstrip()) for line in table.splitlines()) <= columns


@pytest.mark.parametrize(
    ("rivals", "riders"),
    [
        (2, "1 rider with two clients"),
        (3, "1 rider with two clients and 1 with one"),
        (5, "2 riders with two clients each and 1 with one"),
        (16, "8 riders with two clients each"),
    ],
)
def test_the_output_states_how_many_riders_have_two_clients(rivals: int, riders: str):
    assert riders_of(rivals) == riders


def run_in_this_process(cluster: Cluster, *arguments: str):
    settings = Settings(Path("/nowhere"), LakeAddress.at("/nowhere"), cluster.conninfo("postgres"))
    return CliRunner().invoke(command, arguments, obj=settings)


@pytest.mark.parametrize("dsn", ["???", "host=/nowhere"])
def test_an_unreachable_server_is_reported_in_one_line(dsn: str):
    with pytest.raises(CannotConnect):
        with scratch_on_server(dsn):
            pass


def wait_until_connected(cluster: Cluster) -> None:
    """Wait until clients of the tenant are connected to its scratch database."""
    until = time.monotonic() + 20
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        while time.monotonic() < until:
            found = admin.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND starts_with(datname, %s)",
                (TENANT, PREFIX),
            ).fetchone()
            if found is not None and found[0] > 10:
                return
            time.sleep(0.05)
    raise AssertionError("the command has not started in time")
