"""The checks of the movers find injected torn rows, lost rows and changed values, and nothing in a correct
copy."""

import sys
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.bench_loss import compare
from bench.movers.copied import count_rows, drifted, file_texts, latest, open_copy, torn_rows
from bench.movers.drift import TypeTable, create_tables
from bench.movers.full_copy import TABLES, CopyPlan, measure_copies, stored_rows
from bench.movers.incremental import PollPlan, measure_polls
from bench.movers.mover import MOVERS, Mover, move
from oltp.store import Store, transaction
from oltp.workload.simulation import simulate

COPYING = Mover("copying", "copying")
RIDELAKE = next(one for one in MOVERS if one.tool == "ridelake")


def copy_all(store: Store, folder: Path, tables=TABLES):
    """Copy every table in one snapshot. Integers are copied as such, other values as text."""
    with store.connect() as connection:
        with transaction(connection, psycopg.IsolationLevel.REPEATABLE_READ, read_only=True):
            for table in tables:
                write(folder, table, connection)


def write(folder: Path, table: str, connection, where: str = "true"):
    cursor = connection.execute(f"SELECT * FROM {table} WHERE {where}")
    names = [column.name for column in cursor.description]
    rows = [
        {
            name: value if isinstance(value, int | None) else str(value)
            for name, value in zip(names, row, strict=True)
        }
        for row in cursor
    ]
    target = folder / table.split(".")[1]
    target.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), target / "0.parquet")


def torn(folder: Path) -> dict[str, int]:
    with open_copy(COPYING, folder, TABLES) as connection:
        return {name: rows for name, rows in torn_rows(connection).items() if rows}


@pytest.fixture
def booked_store(seeded_store: Store) -> Store:
    assert simulate(seeded_store, rides=60, clients=2, seed=1).assigned
    return seeded_store


def test_a_copy_of_one_snapshot_has_all_rows_and_none_is_torn(booked_store: Store, tmp_path: Path):
    copy_all(booked_store, tmp_path)
    with open_copy(COPYING, tmp_path, TABLES) as connection:
        assert count_rows(connection, TABLES) == stored_rows(booked_store)
    assert torn(tmp_path) == {}


def test_a_table_that_is_copied_after_more_bookings_is_torn(booked_store: Store, tmp_path: Path):
    copy_all(booked_store, tmp_path)
    simulate(booked_store, rides=60, clients=2, seed=2)
    with booked_store.connect() as connection:
        write(tmp_path, "ridelake.payments", connection)
    assert torn(tmp_path)["f4_one_payment_fits_each_ride"] > 0


@pytest.mark.parametrize(
    ("table", "where", "condition"),
    [
        ("accounts", "account_id <> 2", "f1_money_is_conserved"),
        ("ledger", "transfer_id <> (SELECT max(transfer_id) FROM ledger)", "f2_balances_are_sums"),
        ("payments", "ride_id <> (SELECT max(ride_id) FROM rides)", "f4_one_payment_fits_each_ride"),
        ("requests", "ride_id <> (SELECT max(ride_id) FROM rides)", "f8_each_decision_made_one_ride"),
        ("requests", "ride_id IS NULL", "f10_rides_are_requests_less_refusals"),
    ],
)
def test_a_missing_row_violates_its_condition(
    booked_store: Store, tmp_path: Path, table: str, where: str, condition: str
):
    copy_all(booked_store, tmp_path)
    with booked_store.connect() as connection:
        write(tmp_path, f"ridelake.{table}", connection, where)
    assert condition in torn(tmp_path)


def test_lost_stale_and_kept_rows_are_counted(tmp_path: Path):
    versions = [(1, 1, "old"), (1, 2, "new"), (2, 1, "only"), (4, 1, "deleted"), (5, 1, "older")]
    (tmp_path / "loss_rows").mkdir()
    rows = [{"id": id_, "updated_now": at, "payload": text} for id_, at, text in versions]
    pq.write_table(pa.Table.from_pylist(rows[:3]), tmp_path / "loss_rows/0.parquet")
    pq.write_table(pa.Table.from_pylist(rows[3:]), tmp_path / "loss_rows/1.parquet")
    with open_copy(COPYING, tmp_path, ["public.loss_rows"]) as connection:
        copy = latest(connection, "loss_rows")
    assert copy == {1: "new", 2: "only", 4: "deleted", 5: "older"}
    found = compare(copy, {1: "new", 2: "only", 3: "lost", 5: "newer"})
    assert (found.missing, found.outdated, found.undeleted) == (1, 1, 1)


def drift_of(connection, table: TypeTable, folder: Path) -> dict[int, str | None]:
    with open_copy(COPYING, folder, [table.qualified]) as copy:
        return drifted(connection, table.type, table.texts, file_texts(copy, table.name))


@pytest.mark.slow
def test_a_changed_value_is_reported_and_an_equal_one_is_not(store: Store, tmp_path: Path):
    with store.connect() as connection:
        tables = create_tables(connection)
        assert {table.type for table in tables} >= {"uuid", "numeric", "jsonb", "interval", "timestamptz"}
        for table in tables:
            values = connection.execute(f"SELECT id, v::text AS v FROM {table.qualified}").fetchall()
            target = tmp_path / table.name
            target.mkdir()
            rows = [{"id": id_, "v": text} for id_, text in values]
            pq.write_table(pa.Table.from_pylist(rows), target / "0.parquet")
            assert drift_of(connection, table, tmp_path) == {}, table.name
            rows[0]["v"] = None if table.type != "text" else "another text"
            pq.write_table(pa.Table.from_pylist(rows), target / "0.parquet")
            assert set(drift_of(connection, table, tmp_path)) == {rows[0]["id"]}, table.name
            pq.write_table(pa.Table.from_pylist(rows[1:]), target / "0.parquet")
            assert set(drift_of(connection, table, tmp_path)) == {rows[0]["id"]}, table.name


def test_values_of_typed_columns_are_compared_as_postgres_writes_them(store: Store, tmp_path: Path):
    with store.connect() as connection:
        tables = {table.name: table for table in create_tables(connection)}
        for name, right, wrong in (
            (
                "ordinary_bytea",
                [b"", b"\0\xff\x10", b"\xc3\xa9", None],
                [None, b"\0\xff\x10", b"\xc3\xa9", None],
            ),
            ("ordinary_integers", [[1, 2, 3], [], [1, None, -3], None], [[1, 2, 3], [], [1, 0, -3], None]),
        ):
            target = tmp_path / name
            target.mkdir()
            for values, expected in ((right, 0), (wrong, 1)):
                pq.write_table(pa.table({"id": [1, 2, 3, 4], "v": values}), target / "0.parquet")
                assert len(drift_of(connection, tables[name], tmp_path)) == expected, name


def test_trailing_zeros_in_a_jsonb_are_not_a_difference(store: Store, tmp_path: Path):
    with store.connect() as connection:
        (table,) = [table for table in create_tables(connection) if table.name == "ordinary_jsonb"]
        (tmp_path / table.name).mkdir()
        for fare, changed in (("1.1", set()), ("1.2", {1})):
            texts = [f'{{"tags": ["a", null], "fare": {fare}}}', '"text"', "null", "[]", None]
            target = tmp_path / table.name / "0.parquet"
            pq.write_table(pa.table({"id": [1, 2, 3, 4, 5], "v": texts}), target)
            assert set(drift_of(connection, table, tmp_path)) == changed


@pytest.mark.slow
def test_ridelake_copies_a_live_store_without_a_torn_row(seeded_store: Store, tmp_path: Path):
    pythons = {RIDELAKE: sys.executable}
    found = measure_copies(
        seeded_store, pythons, CopyPlan(rate=30.0, rounds=1, window_seconds=(2.0, 9.0)), tmp_path
    )
    (one,) = found.movers
    assert one.error is None
    assert one.torn
    assert not any(one.torn)
    assert one.memory_bytes > 0
    assert one.bytes_per_row > 0
    assert one.cost.statement_seconds > 0


@pytest.mark.slow
def test_ridelake_follows_a_table_without_losing_a_row(store: Store, tmp_path: Path):
    pythons = {RIDELAKE: sys.executable}
    run = measure_polls(store.conninfo, pythons, PollPlan(seconds=4.0, first_rows=500, writers=3), tmp_path)
    (one,) = run.movers
    assert one.error is None
    assert one.difference is not None
    assert one.difference.lost == one.difference.undeleted == 0
    assert one.polls > 1


@pytest.mark.slow
def test_a_tool_that_fails_is_reported_with_its_error(store: Store, tmp_path: Path):
    python = sys.executable
    run = move(RIDELAKE, python, store.conninfo, tmp_path / "copy", ["public.absent"], own_tables=True)
    assert run.error is not None
    assert "absent" in run.error
