"""The cost of an epoch depends on the changes. A file without a changed key is not rewritten."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import DataFile, Epoch
from oltp.store import Store
from ridelake.ride import new_request_id


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Files of 100 rows instead of 245,760."""
    monkeypatch.setattr("lakehouse.table.layout.ROW_GROUP_ROWS", 50)
    monkeypatch.setattr("lakehouse.capture.writer.RUN_ROWS", 100)
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 20)


def keys_in(file: DataFile, key: str) -> set[int]:
    return set(pq.ParquetFile(file.location).read(columns=[key]).column(0).to_pylist())


def open_file(epoch: Epoch, table: str) -> DataFile | None:
    found = [file for file in epoch.tables[table].files if not file.sealed]
    assert len(found) <= 1
    return found[0] if found else None


def changed_files(before: Epoch, after: Epoch, table: str) -> tuple[set[DataFile], set[DataFile]]:
    """The removed files and the added files of a table."""
    old, new = set(before.tables[table].files), set(after.tables[table].files)
    return old - new, new - old


def log(store: Store, rows: int) -> None:
    with store.connect() as connection:
        connection.execute("CREATE TABLE log (key bigint PRIMARY KEY, word text)")
        connection.execute("INSERT INTO log SELECT i, 'w' FROM generate_series(1, %s) AS i", (rows,))
        connection.execute("SELECT ridelake_tracking.track('log')")


def test_no_file_is_replaced_for_a_few_changed_keys(store: Store, lake: Lake):
    log(store, 0)
    publish_changes(store, lake, tables=["log"])
    with store.connect() as connection:
        connection.execute("INSERT INTO log SELECT i, 'w' FROM generate_series(1, 1000) AS i")
        first = publish_changes(store, lake, verify=True).epoch
        assert [file.rows for file in first.files if file.sealed] == [100] * 10
        for statement, keys in (
            ("UPDATE log SET word = 'x' WHERE key IN (150, 160)", {150, 160}),
            ("DELETE FROM log WHERE key = 950", {950}),
            ("UPDATE log SET key = 5000 WHERE key = 250", {250}),
        ):
            connection.execute(statement)
            second = publish_changes(store, lake, verify=True).epoch
            holding = {f.location for f in first.files if f.sealed and keys & keys_in(f, "key")}
            marked = {
                new.location
                for new in second.files
                for old in first.files
                if new.location == old.location and new.deleted == old.deleted + len(keys)
            }
            assert marked == holding
            assert len(holding) == 1
            added = {file.location for file in second.files} - {file.location for file in first.files}
            assert sum(file.rows for file in second.files if file.location in added) <= 3
            first = second


@pytest.mark.slow
def test_new_rows_change_no_sealed_file_and_are_sealed_once_there_are_enough(store: Store, lake: Lake):
    log(store, 0)
    publish_changes(store, lake, tables=["log"])
    with store.connect() as connection:
        connection.execute("INSERT INTO log SELECT i, 'w' FROM generate_series(1, 100) AS i")
        epoch = publish_changes(store, lake).epoch
        for number in range(1000, 1100, 5):
            connection.execute(
                "INSERT INTO log SELECT %s + i, 'n' FROM generate_series(0, 4) AS i", (number,)
            )
            before, epoch = epoch, publish_changes(store, lake).epoch
            removed, _ = changed_files(before, epoch, "log")
            assert not any(file.sealed and file.rows for file in removed)
            assert (opened := open_file(epoch, "log")) is None or opened.rows < 20
    assert publish_changes(store, lake, verify=True).epoch.rows == 200
    assert all(20 <= file.rows <= 100 for file in epoch.files if file.sealed)


@pytest.mark.slow
def test_rides_in_progress_stay_in_the_open_file(seeded_store: Store, lake: Lake, monkeypatch):
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 5)
    epoch = publish_snapshot(seeded_store, lake)
    with seeded_store.connect() as connection:
        riders = connection.execute(
            "SELECT rider_id, min(zone_id) FROM riders JOIN zones USING (city_id)"
            " GROUP BY rider_id ORDER BY rider_id LIMIT 30"
        ).fetchall()
        rides: list[int] = []
        for rider_id, zone_id in riders:
            connection.execute("SELECT top_up(%s, 5000)", (rider_id,))
            booked = connection.execute(
                "SELECT ride_id FROM book_ride(%s, %s, %s, %s, 1000, 1000)",
                (new_request_id(), rider_id, zone_id, zone_id),
            ).fetchone()
            rides += [booked[0]] if booked and booked[0] else []
        assert len(rides) >= 5
        moves = [b"SELECT start_rides(%s)", b"SELECT complete_rides(%s, %s)"]
        before, epoch = epoch, publish_changes(seeded_store, lake, verify=True).epoch
        for number, move in enumerate(moves):
            for table in ("rides", "payments") if number == 0 else ("rides",):
                removed, new = changed_files(before, epoch, table)
                assert not any(file.sealed for file in removed), f"a sealed file of {table} was rewritten"
                assert [file.sealed for file in new] == [False]
                assert set(rides) <= keys_in(open_file(epoch, table), "ride_id")
            connection.execute(move, (rides,) if number == 0 else (rides, [0] * len(rides)))
            before, epoch = epoch, publish_changes(seeded_store, lake, verify=True).epoch
    removed, new = changed_files(before, epoch, "rides")
    assert not any(file.sealed for file in removed), "a file of earlier rides was rewritten"
    (sealed,) = (file for file in new if file.sealed)
    assert keys_in(sealed, "ride_id") >= set(rides), "the ended rides were not sealed"
    assert sealed.rows < 100


def test_an_epoch_reads_only_the_keys_of_the_necessary_files(store: Store, lake: Lake, monkeypatch):
    """After inserts, only the footers of sealed files are read. The keys of a file are read once."""
    log(store, 0)
    publish_changes(store, lake, tables=["log"])
    with store.connect() as connection:
        connection.execute("INSERT INTO log SELECT i, 'w' FROM generate_series(1, 1000) AS i")
        publish_changes(store, lake)
        connection.execute("INSERT INTO log VALUES (2000, 'n')")
        read: list[object] = []
        whole = pq.ParquetFile.read
        monkeypatch.setattr(
            pq.ParquetFile, "read", lambda self, **how: read.append(how.get("columns")) or whole(self, **how)
        )
        publish_changes(store, lake)
        assert read == []
        connection.execute("UPDATE log SET word = 'x' WHERE key = 510")
        publish_changes(store, lake)
        assert read == [None, ["key"]], "not only the open file and the keys of one file were read"
        connection.execute("UPDATE log SET word = 'x' WHERE key = 511")
        publish_changes(store, lake)
    assert [columns for columns in read[2:] if columns] == [], "the index of the keys was not used"


def test_a_table_that_is_emptied_is_one_file_without_rows(store: Store, lake: Lake):
    log(store, 500)
    publish_changes(store, lake, tables=["log"])
    with store.connect() as connection:
        connection.execute("DELETE FROM log")
        epoch = publish_changes(store, lake, verify=True).epoch
        assert [(file.rows, Path(file.location).exists()) for file in epoch.files] == [(0, True)]
        connection.execute("INSERT INTO log VALUES (1, 'again')")
        epoch = publish_changes(store, lake, verify=True).epoch
    assert [file.rows for file in epoch.files] == [1]
