"""Any Postgres ≥ 15: the DSN path, on a server that is not ours."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from psycopg import IsolationLevel
from psycopg.conninfo import make_conninfo

from oltp.cluster import Cluster
from oltp.seed import seed_rides
from oltp.simulate import simulate
from oltp.store import Store, ensure_database, open_database, open_store, transaction
from ridelake.errors import CannotConnect
from ridelake.settings import Settings

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="module")
def postgres_15(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The oldest server we promise, if this machine has one; its DSN."""
    if not (DEBIAN_15 / "pg_ctl").exists():
        pytest.skip("PostgreSQL 15 is not installed (Debian: postgresql-15)")
    import os
    import pwd
    import shutil
    import tempfile

    account = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="ridelake-15-"))
    if account is not None:
        os.chown(folder, account, -1)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [DEBIAN_15 / program, "-D", folder / "data", *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            user=account,
        )

    run("initdb", "--auth=trust", "--username=ridelake", "--no-sync")
    run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -c listen_addresses=''")
    yield make_conninfo(host=str(folder), user="ridelake", dbname="postgres")
    run("pg_ctl", "stop", "-w", "-m", "immediate")
    shutil.rmtree(folder)


def test_the_whole_store_works_on_postgres_15(postgres_15: str):
    ensure_database(postgres_15, "rides_of_fifteen")
    store = open_database(make_conninfo(postgres_15, dbname="rides_of_fifteen"))
    assert store.server_version // 10_000 == 15
    assert seed_rides(store, 500, seed=1).rides == 500
    done = simulate(store, rides=200, clients=4, seed=1)
    assert done.assigned > 100
    assert done.audit.passed, done.audit.verdict


def test_a_role_that_is_no_superuser_can_run_the_store(cluster: Cluster):
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
def test_an_unreachable_server_is_one_line_without_the_password(tmp_path: Path, dsn: str):
    with pytest.raises(CannotConnect, match="cannot reach Postgres") as caught:
        with open_store(Settings(tmp_path, tmp_path / "lake", dsn)):
            pass
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_dsn_that_is_none_is_one_line(tmp_path: Path):
    with pytest.raises(CannotConnect, match="not a connection string"):
        with open_store(Settings(tmp_path, tmp_path / "lake", "what = ever = this")):
            pass


def test_a_server_older_than_15_is_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("oltp.store.SERVER_VERSION_MIN", 10**6)  # so that this one is too old
    with pytest.raises(CannotConnect, match="needs 15 or newer"):
        open_database(cluster.conninfo("postgres"))


def test_a_store_with_another_schema_version_is_refused(store: Store):
    with store.connect() as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(CannotConnect, match="schema version 99"):
        open_database(store.conninfo)


def test_first_users_at_once_install_one_schema(cluster: Cluster):
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
