"""Concurrent clients, and the state of the store."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from factories import Town
from psycopg import Connection

from oltp.audit import audit
from oltp.store import Store

Item = TypeVar("Item")
Answer = TypeVar("Answer")

TABLES = ("accounts", "riders", "drivers", "rides", "payments", "ride_events", "requests", "ledger")


def all_at_once(
    store: Store, operation: Callable[[Connection, Item], Answer], items: Sequence[Item]
) -> list[Answer | Exception]:
    """Call `operation(connection, item)` for all items concurrently, each on its own connection. Returns
    results and exceptions."""
    barrier = Barrier(len(items))

    def client(item: Item) -> Answer | Exception:
        with store.connect() as connection:
            barrier.wait(30)
            try:
                return operation(connection, item)
            except Exception as error:
                return error

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(client, items))


def wait_until_blocked(store: Store, count: int = 1) -> None:
    """Wait until `count` sessions of the store are blocked by another session."""
    until = time.monotonic() + 30
    with store.connect() as connection:
        while time.monotonic() < until:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND cardinality(pg_blocking_pids(pid)) > 0"
            ).fetchone()
            if row is not None and row[0] >= count:
                return
            time.sleep(0.01)
    raise AssertionError(f"fewer than {count} sessions are blocked")


def everything(town: Town) -> dict[str, list[tuple]]:
    """Every row of the store, for comparison before and after an operation."""
    with town.store.connect() as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2".encode()).fetchall()
            for table in TABLES
        }


def assert_audit_passes(store: Store) -> None:
    with store.connect() as connection:
        report = audit(connection)
    assert report.passed, f"{report.verdict}: {[f.offending for f in report.findings if f.broken]}"


def broken_conditions(store: Store) -> set[str]:
    with store.connect() as connection:
        return {finding.condition.name for finding in audit(connection).findings if finding.broken}
