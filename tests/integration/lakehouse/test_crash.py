"""Postgres crashes after commits whose WAL is not flushed. None of their rows may be in the lake."""

from collections.abc import Iterator

import psycopg
import pytest
from private_server import PrivateServer, private_server
from psycopg import Connection

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from ridelake.errors import CannotConnect

TABLE = """
CREATE TABLE things (key bigint PRIMARY KEY, word text);
SELECT ridelake_tracking.track('things');
INSERT INTO things SELECT i, 'old' FROM generate_series(1, 100) AS i
"""
ATTEMPTS = 20


@pytest.fixture
def server() -> Iterator[PrivateServer]:
    """A server that rarely flushes its WAL unless a session waits for it."""
    with private_server() as server:
        with server.store.connect() as connection:
            connection.execute(TABLE)
            connection.execute("ALTER SYSTEM SET wal_writer_delay = '1s'")
            connection.execute("SELECT pg_reload_conf()")
        yield server


def keys(server: PrivateServer) -> set[int]:
    with server.store.connect() as connection:
        return {key for (key,) in connection.execute("SELECT key FROM things").fetchall()}


def commit_without_flush(connection: Connection, key: int) -> None:
    """Commit without waiting for the WAL flush, as any client may do."""
    connection.execute("SET synchronous_commit = off")
    connection.execute("INSERT INTO things VALUES (%s, 'unsafe')", (key,))


def publish_and_crash(server: PrivateServer, lake: Lake, key: int) -> None:
    """Publish a row that is committed but not flushed, then kill the server immediately."""
    with server.store.connect() as connection:
        commit_without_flush(connection, key)
        publish_changes(server.store, lake)
    server.kill()
    server.start()


@pytest.mark.slow
def test_without_waiting_for_the_wal_flush_the_lake_has_a_row_that_postgres_lost(
    server: PrivateServer, lake: Lake, monkeypatch
):
    """Negative control of
    `test_after_waiting_for_the_wal_flush_every_row_of_the_lake_still_exists`."""
    monkeypatch.setattr("lakehouse.capture.publish.wait_until_flushed", lambda *_: None)
    publish_snapshot(server.store, lake, tables=["things"])
    for attempt in range(ATTEMPTS):
        publish_and_crash(server, lake, 1000 + attempt)
        if 1000 + attempt not in keys(server):
            break
    else:
        pytest.fail("the WAL was always flushed before the crash, so the test proves nothing")
    assert newest_epoch(lake.address).tables["things"].rows == len(keys(server)) + 1


@pytest.mark.slow
def test_after_waiting_for_the_wal_flush_every_row_of_the_lake_still_exists(
    server: PrivateServer, lake: Lake
):
    publish_snapshot(server.store, lake, tables=["things"])
    for attempt in range(3):
        publish_and_crash(server, lake, 1000 + attempt)
        assert 1000 + attempt in keys(server), "Postgres has lost a published row"
        assert verify_now(server.store, lake).as_dict()["equal"]
    assert publish_changes(server.store, lake, verify=True).epoch.verified


@pytest.mark.slow
def test_a_server_crash_during_an_epoch_leaves_the_old_one(server: PrivateServer, lake: Lake, monkeypatch):
    first = publish_snapshot(server.store, lake, tables=["things"])
    with server.store.connect() as connection:
        commit_without_flush(connection, 1000)

    def die(*_) -> None:
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        raise psycopg.OperationalError("the server has crashed")

    monkeypatch.setattr("lakehouse.capture.publish.wait_until_flushed", die)
    with pytest.raises(CannotConnect, match="no epoch was published; run the command again"):
        publish_changes(server.store, lake)
    assert newest_epoch(lake.address) == first
    monkeypatch.undo()
    server.start()
    assert publish_changes(server.store, lake, verify=True).epoch.verified


@pytest.mark.slow
def test_a_reused_transaction_number_is_not_confused_with_the_lost_one(server: PrivateServer, lake: Lake):
    """After the crash, the ids of the lost transactions are assigned to other transactions."""
    publish_snapshot(server.store, lake, tables=["things"])
    for attempt in range(3):
        with server.store.connect() as connection:
            commit_without_flush(connection, 2000 + attempt)
        server.kill()  # the row has not been published
        server.start()
        with server.store.connect() as connection:
            connection.execute("INSERT INTO things VALUES (%s, 'other')", (3000 + attempt,))
            connection.execute("UPDATE things SET word = 'other' WHERE key = %s", (1 + attempt,))
        assert publish_changes(server.store, lake, verify=True).epoch.verified
        assert 3000 + attempt in keys(server)
