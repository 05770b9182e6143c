"""The store on a server that a DSN names, Postgres 15 or newer."""

from pathlib import Path
from threading import Thread

import psycopg
import pytest
from factories import Town
from psycopg import IsolationLevel
from psycopg.conninfo import make_conninfo

from oltp import booking, lifecycle
from oltp.cluster.server import Cluster
from oltp.ingest.seed import seed_rides
from oltp.store import Store, ensure_database, open_database, open_store, transaction
from oltp.workload import simulate
from ridelake.errors import CannotConnect
from ridelake.settings import LakeAddress, Settings


def test_the_whole_store_works_on_postgres_15(postgres_15: str):
    ensure_database(postgres_15, "rides_of_fifteen")
    store = open_database(make_conninfo(postgres_15, dbname="rides_of_fifteen"))
    assert store.server_version // 10_000 == 15
    assert seed_rides(store, 500, seed=1).rides == 500
    done = simulate(store, rides=200, clients=4, seed=1)
    assert done.assigned > 100
    assert done.audit.passed, done.audit.verdict


def test_no_function_is_jit_compiled(postgres_15: str):
    """JIT is enabled in Debian's servers. Compilation would take a thousand times as long as a batch of
    twenty."""
    ensure_database(postgres_15, "rides_of_a_compiler")
    store = open_database(make_conninfo(postgres_15, dbname="rides_of_a_compiler"))
    town = Town(store)
    for _ in range(20):
        town.driver()
    requests = [town.request(town.rider()) for _ in range(20)]
    plans: list[str] = []
    with store.connect() as connection:
        connection.add_notice_handler(lambda output: plans.append(output.message_primary or ""))
        connection.execute("LOAD 'auto_explain'")
        connection.execute("SET auto_explain.log_min_duration = 0")
        connection.execute("SET auto_explain.log_nested_statements = on")
        connection.execute("SET auto_explain.log_analyze = on")
        connection.execute("SET client_min_messages = log")
        connection.execute("SET jit = on")
        if connection.execute("SELECT pg_jit_available()").fetchone() == (False,):
            pytest.skip("this installation of PostgreSQL 15 has no JIT")
        ride_ids = [decision.ride_id or 0 for decision in booking.book_many(connection, requests)]
        connection.execute("SET jit_above_cost = 0")  # compile even cheap statements
        lifecycle.start_many(connection, ride_ids)
        lifecycle.complete_many(connection, [(ride_id, 0) for ride_id in ride_ids[:10]])
        lifecycle.cancel_many(connection, ride_ids[10:])
    # Without the statements that call the functions.
    ours = [plan for plan in plans if "Query Text: SELECT place" not in plan]
    assert any("WITH submitted AS" in plan for plan in ours)
    assert [plan for plan in ours if "JIT:" in plan] == []


def test_a_role_that_is_not_a_superuser_can_run_the_store(cluster: Cluster):
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS of_a_tenant WITH (FORCE)")
        admin.execute("DROP ROLE IF EXISTS tenant")
        admin.execute("CREATE ROLE tenant LOGIN")
        admin.execute("CREATE DATABASE of_a_tenant OWNER tenant")
    try:
        store = open_database(make_conninfo(cluster.conninfo("of_a_tenant"), user="tenant"))
        assert seed_rides(store, 200, seed=1).rides == 200
        assert simulate(store, rides=50, clients=2).audit.passed
    finally:
        with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
            admin.execute("DROP DATABASE of_a_tenant WITH (FORCE)")
            admin.execute("DROP ROLE tenant")


@pytest.mark.parametrize(
    "dsn",
    ["host=/nowhere dbname=x", "postgresql://127.0.0.1:1/x", "host=127.0.0.1 port=1 user=u password=secret"],
)
def test_an_unreachable_server_is_reported_in_one_line_without_the_password(tmp_path: Path, dsn: str):
    with pytest.raises(CannotConnect, match="cannot connect to Postgres") as caught:
        with open_store(Settings(tmp_path, LakeAddress.at(tmp_path / "lake"), dsn)):
            pass
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_invalid_dsn_is_reported_in_one_line(tmp_path: Path):
    with pytest.raises(CannotConnect, match="not a connection string"):
        with open_store(Settings(tmp_path, LakeAddress.at(tmp_path / "lake"), "this = is = invalid")):
            pass


def test_a_server_older_than_15_is_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("oltp.store.SERVER_VERSION_MIN", 10**6)  # this server is too old then
    with pytest.raises(CannotConnect, match="needs 15 or newer"):
        open_database(cluster.conninfo("postgres"))


def test_settings_of_the_database_and_the_dsn_do_not_change_a_session(cluster: Cluster, store: Store):
    with store.connect() as connection:
        name = connection.info.dbname
        for setting in ("default_transaction_isolation = 'repeatable read'", "synchronous_commit = off"):
            connection.execute(f"ALTER DATABASE {name} SET {setting}")
    theirs = "-c synchronous_commit=local -c default_transaction_isolation=serializable"
    for dsn in (cluster.conninfo(name), make_conninfo(cluster.conninfo(name), options=theirs)):
        with open_database(dsn).connect() as connection:
            assert connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
            connection.execute("SET synchronous_commit = off")  # a SET in the session changes it
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)


def test_a_store_with_another_schema_version_is_refused(store: Store):
    with store.connect() as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(CannotConnect, match="schema version 99"):
        open_database(store.conninfo)


def test_concurrent_first_users_install_one_schema(cluster: Cluster):
    ensure_database(cluster.conninfo("postgres"), "raced")
    failures: list[BaseException] = []

    def first_use() -> None:
        try:
            open_database(cluster.conninfo("raced"))
        except BaseException as error:
            failures.append(error)

    users = [Thread(target=first_use) for _ in range(6)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute("DROP DATABASE raced WITH (FORCE)")
    assert failures == []


def test_a_transaction_leaves_the_connection_as_it_was(store: Store):
    with store.connect() as connection:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            with transaction(connection, IsolationLevel.SERIALIZABLE, read_only=True):
                connection.execute("DELETE FROM requests")
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
        connection.execute("DELETE FROM requests")


@pytest.mark.timeout(20)
def test_an_interrupt_that_leaves_a_connection_locked_does_not_wait_for_it(store: Store):
    with pytest.raises(KeyboardInterrupt), store.connect() as connection:
        connection.lock.acquire()
        raise KeyboardInterrupt
    with (
        pytest.raises(KeyboardInterrupt),
        store.connect() as other,
        transaction(other),
    ):
        other.lock.acquire()
        raise KeyboardInterrupt
    assert connection.closed
    assert other.closed
