"""`ridelake doctor` reports what a server and a role can do, and leaves nothing in the database."""

import json
import uuid
from collections.abc import Iterator, Mapping

import psycopg
import pytest
from bare_database import rows_of, run
from own_tables import ORDERS
from pgbouncer import pgbouncer
from psycopg.conninfo import make_conninfo
from terminal import answer, ridelake

from lakehouse.source.doctor import SERVER_PROBES, SESSION_PROBES, diagnose, probe, rights
from lakehouse.source.tracking import track
from oltp.cluster.server import Cluster
from oltp.store import Store

CONTENT = """
    SELECT 'relation', nspname, relname::text FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
    UNION ALL SELECT 'function', nspname, proname FROM pg_proc JOIN pg_namespace AS n ON n.oid = pronamespace
    UNION ALL SELECT 'trigger', '', tgname FROM pg_trigger
    UNION ALL SELECT 'schema', nspname, '' FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    ORDER BY 1, 2, 3"""


def statuses(dsn: str) -> dict[str, str]:
    return {name: result.status for name, result in diagnose(dsn).results.items()}


def not_ok(dsn: str) -> dict[str, str]:
    """The lines of the probes with another status than ok."""
    return {name: one.line() for name, one in diagnose(dsn).results.items() if one.status != "ok"}


@pytest.fixture
def shop(bare: Store) -> Store:
    run(
        bare,
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id bigint PRIMARY KEY, what text) PARTITION BY RANGE (id)",
        "CREATE TABLE shop.orders_1 PARTITION OF shop.orders DEFAULT",  # read through the partitioned table
        ORDERS,
    )
    return bare


@pytest.fixture
def role(shop: Store) -> Iterator[str]:
    """A role without privileges."""
    name = f"reader_{uuid.uuid4().hex[:12]}"
    run(shop, f"CREATE ROLE {name} LOGIN")
    yield name
    run(shop, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_an_owner_can_do_everything_and_nothing_is_left(shop: Store):
    before = rows_of(shop, CONTENT)
    assert set(statuses(shop.conninfo).values()) == {"ok"}
    assert set(statuses(shop.conninfo)) == {"connection", *SERVER_PROBES, *SESSION_PROBES}
    assert rows_of(shop, CONTENT) == before


def test_the_command_prints_one_line_per_probe(shop: Store):
    lines = answer("doctor", shop.conninfo).splitlines()
    assert len(lines) == 1 + len(SERVER_PROBES) + len(SESSION_PROBES)
    assert all(" ok" in line for line in lines)
    report = json.loads(answer("doctor", "--json", "--dsn", shop.conninfo))
    assert report["passed"] is True
    assert {"probe": "encoding", "status": "ok", "text": "UTF8"} in report["probes"]


def test_a_role_that_may_only_read_gets_a_report(shop: Store, role: str):
    run(
        shop,
        f"GRANT pg_read_all_data TO {role}",
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
        f"ALTER ROLE {role} SET statement_timeout = '30s'",
        "ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY",
    )
    dsn = make_conninfo(shop.conninfo, user=role, options="")
    found = not_ok(dsn)
    assert set(found) == {"history", "row security", "tracking", "booking"}
    assert all(line.startswith("works without: ") for line in found.values())
    assert "shop.orders" in found["row security"]
    assert "run `ridelake track` once" in found["tracking"]
    assert "statement_timeout 30s" in diagnose(dsn).results["session settings"].text
    assert ridelake("doctor", dsn).returncode == 0


def test_a_role_that_may_not_read_the_tracking_can_copy_tables(shop: Store, role: str):
    track(shop, "orders")
    run(
        shop, f"GRANT USAGE ON SCHEMA shop TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public, shop TO {role}",
    )  # fmt: skip
    dsn = make_conninfo(shop.conninfo, user=role)
    line = not_ok(dsn)["tracking"]
    assert line.startswith("works without: ")
    assert "permission denied for schema ridelake_tracking" in line
    assert "epochs of tracked tables are complete" in line
    assert diagnose(dsn).passed


def test_a_role_without_rights_is_refused_with_what_to_grant(shop: Store, role: str):
    run(shop, f"ALTER ROLE {role} CONNECTION LIMIT 3")
    done = ridelake("doctor", make_conninfo(shop.conninfo, user=role))
    assert done.returncode == 1
    assert "refused: 2 of 2 tables (public.orders, shop.orders)" in done.stdout
    assert "GRANT SELECT ON TABLE" in done.stdout
    assert "works without: connections to spare" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "1 of 19 checks is refused" in done.stderr


def test_without_temporary_tables_the_other_probes_run(shop: Store, role: str):
    run(
        shop, "REVOKE TEMP ON DATABASE " + shop.conninfo.split("dbname=")[1].split()[0] + " FROM PUBLIC",
        f"GRANT SELECT ON orders TO {role}",
    )  # fmt: skip
    found = statuses(make_conninfo(shop.conninfo, user=role))
    assert [name for name, status in found.items() if status == "not probed"] == ["SKIP LOCKED", "triggers"]
    assert found["tables"] == "works without"


@pytest.mark.parametrize("tracked", [False, True])
def test_an_interrupted_probe_leaves_nothing(shop: Store, monkeypatch: pytest.MonkeyPatch, tracked: bool):
    if tracked:
        answer("track", "shop.orders", "--dsn", shop.conninfo)
    before = rows_of(shop, CONTENT)
    original = rights.row

    def interrupted(connection: psycopg.Connection, query: str, **parameters: object) -> tuple:
        if query == "tracked_scratch":
            raise KeyboardInterrupt
        return original(connection, query, **parameters)

    monkeypatch.setattr(rights, "row", interrupted)
    with pytest.raises(KeyboardInterrupt):
        diagnose(shop.conninfo)
    assert rows_of(shop, CONTENT) == before


DEVIATING: Mapping[str, tuple[str, str]] = {
    "a snapshot that sees a running transaction": ("assign_transaction_id", "SELECT 3"),
    "ranges of pages that lack rows": ("page_ranges", "SELECT 3, 1, 1"),
    "SKIP LOCKED that skips more": ("skip_locked", "SELECT 2"),
    "a BEFORE trigger that is not the last": (
        "fire_triggers",
        probe.QUERIES["fire_triggers"].replace("zzz_set BEFORE", "aaa_set BEFORE").replace("R zzz", "R aaa"),
    ),
    "triggers that do not fire": (
        "fire_triggers",
        probe.QUERIES["fire_triggers"].replace("TRUNCATE ridelake_doctor_rows", "SELECT 1"),
    ),
    "tracking that misses a delete": (
        "track_scratch",
        probe.QUERIES["track_scratch"].replace("DELETE FROM", "SELECT FROM"),
    ),
    "an old server": ("version", "SELECT 140000, 'PostgreSQL'"),
    "a standby": ("is_standby", "SELECT true"),
}


@pytest.mark.parametrize("kind", DEVIATING)
def test_a_server_that_behaves_differently_is_refused(
    shop: Store, monkeypatch: pytest.MonkeyPatch, kind: str
):
    name, query = DEVIATING[kind]
    monkeypatch.setattr(probe, "QUERIES", {**probe.QUERIES, name: query})
    assert [line.split(":")[0] for line in not_ok(shop.conninfo).values()][:1] == ["refused"]
    assert ridelake("doctor", shop.conninfo).returncode == 1


@pytest.mark.slow
def test_a_transaction_pooler_is_refused_and_a_session_pooler_is_not(shop: Store):
    with pgbouncer(shop.conninfo, pool_mode="transaction") as dsn:
        found = not_ok(dsn)
        assert found["pooler"].startswith("refused: a connection pooler in transaction mode")
        assert "connect to the server directly" in found["pooler"]
        assert set(found) == {"pooler", "connections", "session settings", *SESSION_PROBES}
    with pgbouncer(shop.conninfo, pool_mode="session") as dsn:
        assert not_ok(dsn) == {}
        assert diagnose(dsn).results["pooler"].text == "session mode"
    with pgbouncer(shop.conninfo, pool_mode="session", default_pool_size=1) as dsn:
        assert "a second one does not answer" in not_ok(dsn)["connections"]


def test_postgres_15_works_without_the_index(postgres_15: str):
    assert set(not_ok(postgres_15)) == {"version"}
    assert not_ok(postgres_15)["version"].startswith("works without: an index on tx on Postgres 15.")


def test_a_database_without_an_encoding_is_refused_by_doctor(cluster: Cluster):
    name = f"ascii_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0".encode())
        try:
            assert set(not_ok(cluster.conninfo(name))) == {"encoding"}
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_a_server_that_cannot_be_reached_is_exit_code_3_without_the_password():
    done = ridelake("doctor", "postgresql://me:secret@127.0.0.1:1/shop")
    assert done.returncode == 3
    assert done.stdout.startswith("connection        refused: no connection, because ")
    assert "secret" not in done.stdout + done.stderr
    assert ridelake("doctor", "not a dsn").returncode == 3
