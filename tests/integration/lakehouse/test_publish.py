"""An epoch is one snapshot of all tables, published completely or not at all."""

import os
import pkgutil
import signal
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from lake_files import data_files, files_of
from published_tables import rows_of
from random_writes import random_writers

import lakehouse.source.snapshot
from lakehouse.capture.publish import publish_snapshot
from lakehouse.engines import open_engine
from lakehouse.table.catalog import CommitConflict, Lake
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import newest_epoch, numbered_epoch, read_epochs
from oltp.store import Store
from ridelake.errors import CannotConnect, RidelakeError


@pytest.mark.slow
def test_an_epoch_taken_while_rides_are_booked_is_consistent(seeded_store, lake, broken):
    with random_writers(seeded_store, 4) as done:
        for _ in range(3):
            before = sum(done)
            epoch = publish_snapshot(seeded_store, lake)
            assert sum(done) > before, "there were no concurrent rides, so the test proves nothing"
            assert not broken(epoch)
    assert [epoch.number for epoch in read_epochs(lake.address)] == [3, 2, 1]
    assert epoch.tables["rides"].rows > 2000


@pytest.mark.slow
def test_a_reader_never_sees_tables_of_different_epochs(seeded_store, lake, broken):
    publish_snapshot(seeded_store, lake)
    stop = threading.Event()
    seen: list[int] = []
    faults: list[object] = []

    def read() -> None:
        while not stop.is_set():
            epoch = newest_epoch(lake.address)
            seen.append(epoch.number)
            faults.extend(broken(epoch).items())
            # The pointers of the Iceberg catalog change in the same transaction.
            with lake.catalog.engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")  # sqlite3 does not start a transaction for a SELECT
                number = connection.exec_driver_sql("SELECT max(number) FROM epochs").scalar_one()
                pointers = set(
                    connection.exec_driver_sql("SELECT metadata_location FROM iceberg_tables").scalars()
                )
            pinned = {str(table.metadata) for table in numbered_epoch(lake.address, number).tables.values()}
            if pinned != pointers:
                faults.append(f"the pointers are not those of epoch {number}")

    with random_writers(seeded_store, 2):
        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(4):
            publish_snapshot(seeded_store, lake)
        stop.set()
        reader.join()
    assert not faults
    assert seen == sorted(seen)
    assert len(set(seen)) > 1


def test_the_first_epoch_is_not_changed(published):
    with open_engine("duckdb", published.settings, published.epoch) as engine:
        before = engine.sql("SELECT * FROM accounts ORDER BY 1")
    with random_writers(published.store, 2):
        time.sleep(0.3)
    second = publish_snapshot(published.store, Lake.create(published.settings.lake))
    assert second.number == 2
    assert not set(second.files) & set(published.epoch.files)
    with open_engine("duckdb", published.settings, numbered_epoch(published.settings.lake, 1)) as engine:
        assert engine.sql("SELECT * FROM accounts ORDER BY 1").equals(before)
    with open_engine("duckdb", published.settings, second) as engine:
        assert not engine.sql("SELECT * FROM accounts ORDER BY 1").equals(before)


def test_a_published_epoch_is_read_back_unchanged(published):
    assert newest_epoch(published.settings.lake) == published.epoch
    token = published.epoch.token
    assert token.snapshot.count(":") == 2
    assert token.lsn.count("/") == 1
    assert token.system_identifier
    assert token.timeline == 1


@pytest.mark.slow
def test_a_concurrent_truncate_waits_for_the_epoch(seeded_store: Store, lake: Lake, monkeypatch):
    """TRUNCATE also removes rows of older snapshots. Without locks, the epoch would have an empty table."""
    export, truncating = lakehouse.capture.publish.export, []

    def truncate() -> None:
        with seeded_store.connect() as connection:
            connection.execute("TRUNCATE ledger")

    def export_slowly(*arguments, **more):
        if not truncating:
            truncating.append(threading.Thread(target=truncate))
            truncating[0].start()
            time.sleep(0.3)
        return export(*arguments, **more)

    monkeypatch.setattr("lakehouse.capture.publish.export", export_slowly)
    assert publish_snapshot(seeded_store, lake).tables["ledger"].rows > 0
    truncating[0].join()
    monkeypatch.undo()
    assert publish_snapshot(seeded_store, lake).tables["ledger"].rows == 0


# ── Failures ────────────────────────────────────────────────────────────────────────────────────

STEPS = [
    "lakehouse.source.snapshot.lock_tables",
    "lakehouse.source.snapshot.read_token",
    "lakehouse.capture.writer.TableDraft",
    "lakehouse.capture.publish.export",
    "lakehouse.capture.writer.write_run",
    "lakehouse.table.storage.Storage.bytes_and_sha256",
    "lakehouse.capture.publish.wait_until_flushed",
    "lakehouse.table.metadata.TableDraft.stage",
    "lakehouse.table.metadata.parquet_file_to_data_file",
    "lakehouse.table.storage.Storage.settle",
    "lakehouse.table.catalog.insert",
    "lakehouse.table.catalog.move_pointers",
]
QUICK = (
    "lakehouse.capture.writer.write_run",
    "lakehouse.capture.publish.wait_until_flushed",
    "lakehouse.table.catalog.move_pointers",
)
ONCE_AN_EPOCH = ("lock_tables", "read_token", "flushed", "settle", "insert", "move_pointers")


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", [step if step in QUICK else pytest.param(step, marks=pytest.mark.slow) for step in STEPS]
)
def test_a_failure_at_any_step_leaves_the_old_epoch_and_no_files(seeded_store, lake, monkeypatch, step):
    first = publish_snapshot(seeded_store, lake)
    before = files_of(lake.address.folder)
    original, calls = pkgutil.resolve_name(step), 0
    for failure in (RidelakeError, KeyboardInterrupt):

        def fail_later(*arguments, failure=failure, **more):
            nonlocal calls
            calls += 1
            if calls > 3 or step.endswith(ONCE_AN_EPOCH):
                raise failure("the test's own")
            return original(*arguments, **more)

        monkeypatch.setattr(step, fail_later)
        with pytest.raises(failure, match="the test's own"):
            publish_snapshot(seeded_store, lake)
        assert newest_epoch(lake.address) == first
        assert files_of(lake.address.folder) == before
        monkeypatch.setattr(step, original)
        calls = 0
    assert publish_snapshot(seeded_store, lake).number == 2


def test_an_interrupt_after_the_commit_deletes_no_published_file(seeded_store, lake, monkeypatch):
    publish = Lake.publish

    def publish_and_be_interrupted(*arguments):
        publish(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Lake, "publish", publish_and_be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish_snapshot(seeded_store, lake)
    epoch = newest_epoch(lake.address)
    assert epoch.number == 1
    assert data_files(lake.address.folder) == {Path(file.location) for file in epoch.files}


@pytest.mark.slow
def test_concurrent_snapshots_do_not_mix_epochs(seeded_store: Store, lake: Lake):
    won, lost = [], []

    def run() -> None:
        for _ in range(3):
            try:
                won.append(publish_snapshot(seeded_store, Lake.create(lake.address)).number)
            except CommitConflict as error:
                lost.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(1, len(won) + 1))
    assert len(won) + len(lost) == 9
    assert lost, "there was no conflict, so the test proves nothing"
    assert all("another process published it first" in text for text in lost)
    epochs = read_epochs(lake.address)
    published = {Path(file.location) for epoch in epochs for file in epoch.files}
    assert data_files(lake.address.folder) == published, (
        "a failed process has left its files, or deleted published files"
    )


def test_ctrl_c_before_the_first_row_leaves_the_connection_usable(store: Store):
    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupted)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        with store.connect() as connection:
            connection.execute("CREATE VIEW slow AS SELECT 1::bigint AS key FROM pg_sleep(60)")
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                rows_of(connection, "slow")
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def test_a_lost_connection_is_reported_in_a_sentence(seeded_store: Store, lake: Lake, monkeypatch):
    read_sources, calls = lakehouse.source.snapshot.read_sources, 0

    def terminate(*arguments):
        nonlocal calls
        calls += 1
        if calls == 2:  # inside the transaction
            with seeded_store.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        return read_sources(*arguments)

    monkeypatch.setattr("lakehouse.source.snapshot.read_sources", terminate)
    with pytest.raises(CannotConnect, match="no epoch was published; run the command again"):
        publish_snapshot(seeded_store, lake)
    assert files_of(lake.address.folder) == set()


@pytest.mark.slow
def test_new_and_dropped_columns_are_followed_and_older_epochs_keep_theirs(seeded_store: Store, lake: Lake):
    publish_snapshot(seeded_store, lake)

    def column_of(epoch: Epoch, name: str) -> set[object] | None:
        (location,) = epoch.tables["zones"].locations
        rows = pq.ParquetFile(location).read()
        return set(rows[name].to_pylist()) if name in rows.column_names else None

    with seeded_store.connect() as connection:
        connection.execute("ALTER TABLE zones ADD COLUMN colour text DEFAULT 'red'")
        second = publish_snapshot(seeded_store, lake, verify=True)
        connection.execute("ALTER TABLE zones DROP COLUMN colour")
        third = publish_snapshot(seeded_store, lake, verify=True)
        connection.execute("ALTER TABLE zones ADD COLUMN colour integer DEFAULT 7")
        fourth = publish_snapshot(seeded_store, lake, verify=True)
    assert [column_of(epoch, "colour") for epoch in (second, third, fourth)] == [{"red"}, None, {7}]
