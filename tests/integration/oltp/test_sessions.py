"""The settings of a session, also behind poolers and with other settings of the role or the database."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pgbouncer import pgbouncer
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from lakehouse.capture.publish import publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.verify import verify_now
from oltp.pool import RetryPool
from oltp.store import Store, open_database
from oltp.workload import simulate
from ridelake.errors import CannotConnect
from ridelake.settings import LakeAddress

DROPS_OPTIONS = {"ignore_startup_parameters": "options, extra_float_digits"}
REFUSES_OPTIONS: dict[str, str] = {}
REPRESENTATIVE_POOLERS = {
    ("transaction", "drops options", "default"),
    ("transaction", "refuses options", "round robin"),
    ("statement", "drops options", "one session"),
}
HOSTILE = {
    "default_transaction_isolation": "repeatable read",
    "synchronous_commit": "off",
    "row_security": "on",
    "TimeZone": "America/New_York",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "-3",
    "bytea_output": "escape",
    "array_nulls": "off",
    "quote_all_identifiers": "on",
    "search_path": "pg_catalog",
    "session_replication_role": "replica",
    "client_encoding": "LATIN1",
}
SHORT = {
    "statement_timeout": "150ms",
    "lock_timeout": "150ms",
    "idle_in_transaction_session_timeout": "150ms",
    "idle_session_timeout": "150ms",
    "transaction_timeout": "150ms",
}

# Not derived from SESSION_SETTINGS, to find settings that are missing there.
REQUIRED = {
    "search_path": "ridelake,public",
    "default_transaction_isolation": "read committed",
    "synchronous_commit": "on",
    "row_security": "off",
    "session_replication_role": "origin",
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    **dict.fromkeys(SHORT, "0"),
}


@pytest.fixture(params=[pytest.param("drops options", marks=pytest.mark.slow), "refuses options"])
def session_pooler(request: pytest.FixtureRequest, seeded_store: Store) -> Iterator[str]:
    extra = DROPS_OPTIONS if request.param == "drops options" else REFUSES_OPTIONS
    with pgbouncer(seeded_store.conninfo, pool_mode="session", **extra) as dsn:
        yield dsn


def set_for_database(store: Store, settings: Mapping[str, str]) -> None:
    with store.connect() as connection:
        known = {name for (name,) in connection.execute("SELECT lower(name) FROM pg_settings")}
        for name, value in settings.items():
            if name.lower() in known:
                command = SQL("ALTER DATABASE {} SET {} = {}")
                database = Identifier(connection.info.dbname)
                connection.execute(command.format(database, Identifier(name), Literal(value)))


def settings_of(connection: psycopg.Connection[Any]) -> dict[str, str | None]:
    return {
        name: connection.execute("SELECT current_setting(%s, true)", (name,)).fetchone()[0]  # type: ignore[index]
        for name in REQUIRED
    }


def test_a_session_has_its_settings_for_any_settings_of_the_database(seeded_store: Store):
    set_for_database(seeded_store, HOSTILE | SHORT)
    store = open_database(seeded_store.conninfo)
    with store.connect() as connection, RetryPool(store, 1) as pool:
        for found in (settings_of(connection), pool.call(settings_of)):
            assert found == REQUIRED


def test_a_session_has_its_settings_behind_a_session_pooler(seeded_store: Store, session_pooler: str):
    set_for_database(seeded_store, HOSTILE)
    store = open_database(session_pooler)
    with store.connect() as connection, RetryPool(store, 1) as pool:
        for found in (settings_of(connection), pool.call(settings_of)):
            assert found == REQUIRED


def test_options_of_the_dsn_apply_behind_a_session_pooler(session_pooler: str):
    theirs = r"-c work_mem=7MB --enable-seqscan=off -c application_name=of\ mine"
    with open_database(make_conninfo(session_pooler, options=theirs)).connect() as connection:
        for name, value in (("work_mem", "7MB"), ("enable_seqscan", "off"), ("application_name", "of mine")):
            assert connection.execute("SELECT current_setting(%s)", (name,)).fetchone() == (value,)


@pytest.mark.slow
def test_everything_works_behind_a_session_pooler(session_pooler: str, tmp_path: Path):
    store = open_database(session_pooler)
    assert simulate(store, rides=60, clients=3).audit.passed
    assert simulate(store, rides=60, clients=3, batch=True).audit.passed
    lake = Lake.create(LakeAddress.at(tmp_path / "lake"))
    assert publish_snapshot(store, lake, verify=True).verified
    verify_now(store, lake).prove()


POOLS: dict[str, dict[str, object]] = {
    "default": {},
    "round robin": {"server_round_robin": 1, "min_pool_size": 4},
    "one session": {"default_pool_size": 1},
}
TRANSACTION_POOLERS = [
    pytest.param(
        mode, extra, pool,
        marks=[] if (mode, name, kind) in REPRESENTATIVE_POOLERS else pytest.mark.slow,
        id=f"{mode}, {name}, {kind}",
    )
    for mode in ("transaction", "statement")
    for name, extra in (("drops options", DROPS_OPTIONS), ("refuses options", REFUSES_OPTIONS))
    for kind, pool in POOLS.items()
]  # fmt: skip


@pytest.mark.parametrize(("pool_mode", "extra", "pool"), TRANSACTION_POOLERS)
def test_a_transaction_pooler_is_refused_and_its_sessions_are_not_changed(
    seeded_store: Store, pool_mode: str, extra: Mapping[str, str], pool: Mapping[str, object]
):
    set_for_database(seeded_store, {"TimeZone": "America/New_York"})
    with pgbouncer(seeded_store.conninfo, pool_mode=pool_mode, **extra, **pool) as dsn:
        with pytest.raises(CannotConnect, match=r"transaction mode.*connect to the server directly"):
            open_database(dsn)
        with pytest.raises(CannotConnect, match="transaction mode"):
            Store(dsn, 0).connect()
        with psycopg.connect(dsn, autocommit=True) as of_another_client:
            assert of_another_client.execute("SHOW TimeZone").fetchone() == ("America/New_York",)


@pytest.mark.parametrize("clients_before", [0, 2])
def test_a_session_pooler_with_few_sessions_is_accepted(seeded_store: Store, clients_before: int):
    with (
        pgbouncer(seeded_store.conninfo, pool_mode="session", default_pool_size=3) as dsn,
        ExitStack() as held,
    ):
        for _ in range(clients_before):
            other = held.enter_context(psycopg.connect(dsn, autocommit=True))
            other.execute("SELECT 1")
        store = open_database(dsn)
        with store.connect() as connection:
            assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)


def test_a_setting_that_cannot_be_set_is_named(seeded_store: Store):
    """A role that is not a superuser cannot change this setting."""
    with seeded_store.connect() as admin:
        admin.execute("DROP ROLE IF EXISTS replicating")
        admin.execute("CREATE ROLE replicating LOGIN")
        admin.execute("ALTER ROLE replicating SET session_replication_role = replica")
        try:
            with pytest.raises(CannotConnect, match="session_replication_role is replica and must be origin"):
                open_database(make_conninfo(seeded_store.conninfo, user="replicating"), install=False)
        finally:
            admin.execute("DROP ROLE replicating")


@pytest.mark.slow
def test_an_epoch_is_published_despite_short_timeouts_of_the_database(seeded_store: Store, tmp_path: Path):
    set_for_database(seeded_store, SHORT)
    store = open_database(seeded_store.conninfo)
    lake = Lake.create(LakeAddress.at(tmp_path / "lake"))
    slow = 0

    def wait(rows: int) -> None:
        nonlocal slow
        if slow < 2:
            slow += 1
            time.sleep(0.3)  # meanwhile the session with the snapshot is idle

    assert publish_snapshot(store, lake, wait, verify=True).verified
    with store.connect() as connection:
        connection.execute("SELECT pg_sleep(0.3)")
