"""The audit: each condition is violated deliberately, and the audit must find the violation."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import duckdb
import pyarrow as pa
import pytest
from factories import Town
from psycopg import Connection
from psycopg.rows import dict_row

from bench.movers.copied import torn_rows
from bench.movers.full_copy import TABLES as COPIED_TABLES
from lakehouse.capture.publish import newest_epoch_sums, publish_snapshot
from lakehouse.table.catalog import Lake
from oltp import booking, lifecycle
from oltp.audit import EpochTotals, audit, conditions
from oltp.store import Store
from oltp.workload import simulate
from ridelake.settings import LakeAddress

# The condition that must find the damage → a statement that does the damage. Constraints and triggers that
# would prevent it are dropped first.
DAMAGE = {
    "money_is_conserved": "UPDATE accounts SET balance_cents = balance_cents + 1 WHERE kind = 'rider'",
    "balances_are_sums": "UPDATE accounts SET held_cents = 0",
    "balances_cover_holds": "UPDATE accounts SET held_cents = balance_cents + 1 WHERE kind = 'rider'",
    "one_payment_fits_each_ride": "UPDATE payments SET status = 'voided', captured_cents = 0, tip_cents = 0",
    "rides_are_paid_in_full": "DELETE FROM ledger WHERE kind = 'commission'",
    "busy_means_one_active_ride": "UPDATE drivers SET status = 'available'",
    "rides_do_not_overlap": "UPDATE rides SET driver_id = (SELECT min(driver_id) FROM drivers)",
    "each_decision_made_one_ride": "UPDATE requests SET fare_cents = fare_cents + 1",
    "captures_are_within_holds": "UPDATE rides SET fare_cents = fare_cents + 1",
    "rides_are_requests_less_refusals": "DELETE FROM requests",
    "events_record_every_step": "DELETE FROM ride_events WHERE step = 2",
    "newest_epoch_equals_the_store": "DELETE FROM ledger WHERE kind = 'tip'",
}
TABLES = ("accounts", "drivers", "requests", "rides", "payments", "ledger", "ride_events")
OTHER_DRIVER, OTHER_RIDER = (
    f"(SELECT max(account_id) FROM accounts WHERE kind = '{kind}'"
    " AND account_id NOT IN (from_account_id, to_account_id))"
    for kind in ("driver", "rider")
)
ALSO = [
    (
        "balances_are_sums",
        "UPDATE accounts SET balance_cents = balance_cents + CASE kind WHEN 'rider' THEN -1 ELSE 1 END"
        " WHERE account_id IN ("
        "SELECT min(account_id) FROM accounts WHERE kind IN ('rider', 'driver') GROUP BY kind)",
    ),
    ("one_payment_fits_each_ride", "DELETE FROM payments WHERE status = 'held'"),
    ("rides_are_paid_in_full", "DELETE FROM ledger WHERE kind = 'refund'"),
    ("rides_are_paid_in_full", f"UPDATE ledger SET to_account_id = {OTHER_DRIVER} WHERE kind = 'pay'"),
    ("rides_are_paid_in_full", f"UPDATE ledger SET to_account_id = {OTHER_DRIVER} WHERE kind = 'tip'"),
    ("rides_are_paid_in_full", f"UPDATE ledger SET to_account_id = {OTHER_DRIVER} WHERE kind = 'commission'"),
    ("rides_are_paid_in_full", "UPDATE ledger SET from_account_id = 1 WHERE kind = 'refund'"),
    ("rides_are_paid_in_full", f"UPDATE ledger SET to_account_id = {OTHER_RIDER} WHERE kind = 'refund'"),
    *(
        ("rides_are_paid_in_full", f"UPDATE ledger SET from_account_id = {OTHER_RIDER} WHERE kind = '{kind}'")
        for kind in ("pay", "commission", "tip")
    ),
    (
        "rides_are_paid_in_full",
        "UPDATE ledger SET amount_cents = amount_cents + CASE kind WHEN 'pay' THEN 1 ELSE -1 END"
        " WHERE kind IN ('pay', 'commission')",
    ),
    ("rides_do_not_overlap", "UPDATE rides SET rider_id = (SELECT min(rider_id) FROM riders)"),
    ("each_decision_made_one_ride", "DELETE FROM rides WHERE status = 'started'"),
    *(
        ("each_decision_made_one_ride", f"UPDATE requests SET {column} = {column} + 1")
        for column in ("pickup_zone_id", "dropoff_zone_id", "distance_metres")
    ),
    ("events_record_every_step", "UPDATE ride_events SET status = 'cancelled' WHERE step = 3"),
    ("events_record_every_step", "UPDATE ride_events SET status = 'started' WHERE step = 1"),
    ("events_record_every_step", "UPDATE ride_events SET status = 'cancelled' WHERE step = 2"),
    ("events_record_every_step", "INSERT INTO ride_events SELECT ride_id, 4, status, now() FROM rides"),
    ("events_record_every_step", "INSERT INTO ride_events VALUES (0, 1, 'assigned', now())"),
    *(
        (
            "events_record_every_step",
            f"UPDATE ride_events SET happened_at = happened_at + interval '1 us' WHERE step = {step}",
        )
        for step in (1, 2, 3)
    ),
    ("newest_epoch_equals_the_store", "UPDATE requests SET fare_cents = fare_cents + 1"),
]


@pytest.fixture(scope="module")
def undamaged(store_once: Store, tmp_path_factory: pytest.TempPathFactory) -> EpochTotals:
    """The totals of an epoch of the store. The store has a refunded ride and two active rides, and no
    constraints and triggers."""
    town = Town(store_once)
    with store_once.connect() as connection:
        _fill(town, connection)
        address = LakeAddress.at(tmp_path_factory.mktemp("audited"))
        publish_snapshot(store_once, Lake.create(address))
        epoch = newest_epoch_sums(store_once, address)
        assert epoch is not None
        before = audit(connection, epoch)
    assert before.passed
    assert len(before.findings) == 12
    return epoch


def _fill(town: Town, connection: Connection) -> None:
    for _ in range(3):
        town.driver()
    done, *under_way = [booking.book(connection, town.request(town.rider())).ride_id for _ in range(3)]
    lifecycle.start(connection, done)
    lifecycle.complete(connection, done, tip_cents=100)
    lifecycle.refund(connection, done)
    lifecycle.start(connection, under_way[0])
    connection.execute(
        "DO $$ DECLARE c record; BEGIN FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint"
        " WHERE connamespace = 'ridelake'::regnamespace AND contype IN ('c', 'f')"
        " LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname); END LOOP; END $$"
    )
    connection.execute("DROP INDEX one_active_ride_per_driver, one_active_ride_per_rider")
    connection.execute("CREATE SCHEMA undamaged")
    for table in TABLES:
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        connection.execute(f"CREATE TABLE undamaged.{table} AS TABLE {table}")


@pytest.fixture
def damaged(undamaged: EpochTotals, store_once: Store) -> Iterator[Connection]:
    """A connection to the store of `undamaged`. The rows of the store are restored after the test."""
    with store_once.connect() as connection:
        yield connection
        for table in TABLES:
            connection.execute(f"TRUNCATE {table}; INSERT INTO {table} SELECT * FROM undamaged.{table}")


def test_every_condition_has_a_test_that_violates_it():
    assert [condition.name for condition in conditions()] == list(DAMAGE)
    assert [condition.number for condition in conditions()] == [f"F{number}" for number in range(1, 13)]


@pytest.mark.parametrize(("name", "damage"), [*DAMAGE.items(), *ALSO])
def test_the_audit_finds_the_damage(undamaged: EpochTotals, damaged: Connection, name: str, damage: str):
    assert audit(damaged, undamaged).passed
    damaged.execute(damage.encode())
    report = audit(damaged, undamaged)
    broken = {finding.condition.name: finding for finding in report.findings if finding.broken}
    assert name in broken
    assert broken[name].offending
    assert name in report.verdict
    json.dumps(report.as_dict(), default=str)


def rows_torn_in_files(connection: Connection) -> dict[str, int]:
    """The number of rows that violate each condition of `bench/movers/torn.sql`, in a copy of the tables."""
    with duckdb.connect() as files:
        for table in COPIED_TABLES:
            cursor = connection.cursor(row_factory=dict_row)
            cursor.execute(f"SELECT * FROM {table}".encode())
            rows = [
                {name: value if isinstance(value, int | None) else str(value) for name, value in row.items()}
                for row in cursor
            ]
            columns = {column.name: [row[column.name] for row in rows] for column in cursor.description or ()}
            files.register(table.split(".")[1], pa.table(columns))
        return torn_rows(files)


@pytest.mark.parametrize(("name", "damage"), [*DAMAGE.items(), *ALSO])
def test_the_conditions_over_files_find_as_many_rows_as_the_audit(
    damaged: Connection, name: str, damage: str
):
    damaged.execute(damage.encode())
    found = rows_torn_in_files(damaged)
    expected = {
        f"{finding.condition.number.lower()}_{finding.condition.name}": finding.broken
        for finding in audit(damaged, None).findings[:10]
    }
    assert found == expected


def test_an_old_epoch_is_compared_with_the_store_at_its_snapshot(
    town: Town, connection: Connection, tmp_path: Path
):
    publish_snapshot(town.store, Lake.create(LakeAddress.at(tmp_path)))
    town.driver()
    ride = booking.book(connection, town.request(town.rider())).ride_id
    lifecycle.start(connection, ride)
    lifecycle.complete(connection, ride)
    report = audit(connection, newest_epoch_sums(town.store, LakeAddress.at(tmp_path)))
    assert report.passed
    assert len(report.findings) == 12


def test_without_an_epoch_eleven_conditions_are_evaluated(town: Town, connection: Connection, tmp_path: Path):
    assert newest_epoch_sums(town.store, LakeAddress.at(tmp_path)) is None
    assert len(audit(connection, None).findings) == 11


def test_the_audit_passes_at_any_time_during_a_simulation(seeded_store: Store):
    over = Event()
    reports = []

    def keep_auditing():
        with seeded_store.connect() as connection:
            while not over.is_set():
                reports.append(audit(connection))

    auditor = Thread(target=keep_auditing)
    auditor.start()
    done = simulate(seeded_store, rides=600, clients=6, seed=4)
    over.set()
    auditor.join()
    assert done.audit.passed, done.audit.verdict
    assert len(reports) > 1
    assert [report.verdict for report in reports if not report.passed] == []


def test_the_audit_passes_after_two_concurrent_simulations(seeded_store: Store):
    results = []
    runs = [
        Thread(
            target=lambda seed=seed: results.append(simulate(seeded_store, rides=300, clients=4, seed=seed))
        )
        for seed in (1, 2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(results) == 2
    with seeded_store.connect() as connection:
        assert audit(connection).passed
        counted = connection.execute("SELECT count(*) FROM requests").fetchone()
    assert counted == (600,)
