"""An incremental epoch equals Postgres in its snapshot, with concurrent writers."""

import json
import threading
import time
from collections import Counter

import pytest
from concurrency import assert_audit_passes
from random_writes import OPERATIONS, random_writers

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.capture.sync import sync_once
from lakehouse.table.catalog import Lake, read_pointers
from lakehouse.table.published import newest_epoch, numbered_epoch, read_epochs
from lakehouse.verify import verify_now
from oltp.store import Store

SLOW = (pytest.mark.slow, pytest.mark.timeout(1800))


@pytest.mark.slow
@pytest.mark.parametrize(("epochs", "pause_seconds"), [(3, 0.02), pytest.param(60, 0.1, marks=SLOW)])
def test_epochs_with_eight_concurrent_writers_are_equal(
    seeded_store: Store, lake: Lake, broken, epochs: int, pause_seconds: float
):
    """For many epochs the pauses of the writers are longer, so that the tables stay small."""
    publish_snapshot(seeded_store, lake)
    deleted = Counter[str]()
    with random_writers(seeded_store, 8, pause_seconds) as done:
        for _ in range(epochs):
            before = sum(done)
            epoch = publish_changes(seeded_store, lake, verify=True).epoch
            assert (epoch.kind, epoch.verified) == ("changes", True)
            assert sum(done) > before, "there were no concurrent writes, so the test proves nothing"
            assert epoch.tables["cities"].changed == 0
            rides = epoch.tables["rides"]
            assert 0 < rides.changed < rides.rows, "the table was copied completely"
            assert not broken(epoch)
            deleted.update({name: table.deleted for name, table in epoch.tables.items() if table.deleted})
    idle = [what for what, times in zip(OPERATIONS, done, strict=True) if not times]
    assert not idle, "the writers did not execute these operations"
    assert deleted.keys() == {"requests", "riders", "accounts"}
    assert verify_now(seeded_store, lake).as_dict()["equal"]
    assert not broken(publish_changes(seeded_store, lake, verify=True).epoch)
    assert verify_now(seeded_store, lake).tail_rows == (0,) * 9
    assert_audit_passes(seeded_store)


@pytest.mark.slow
def test_without_changes_no_epoch_is_published(seeded_store: Store, lake: Lake):
    first = sync_once(seeded_store, lake)
    assert (first.is_new, first.epoch.kind) == (True, "full")
    again = sync_once(seeded_store, lake)
    assert (again.is_new, again.epoch) == (False, newest_epoch(lake.address))
    assert "nothing has changed" in again.line()
    assert [epoch.number for epoch in read_epochs(lake.address)] == [1]


@pytest.mark.slow
def test_nothing_changed_and_verified_is_recorded_in_the_newest_epoch(seeded_store: Store, lake: Lake):
    first = publish_snapshot(seeded_store, lake)
    second = publish_changes(seeded_store, lake, verify=True)
    assert (second.is_new, second.epoch.number, second.epoch.verified) == (False, first.number, True)
    assert lake.newest() == second.epoch
    manifest = lake.address.folder / "epochs" / "00001.json"
    assert json.loads(manifest.read_text())["verified"] is True


@pytest.mark.slow
def test_the_first_epoch_of_a_lake_is_a_full_one(seeded_store: Store, lake: Lake):
    epoch = publish_changes(seeded_store, lake, verify=True).epoch
    assert (epoch.number, epoch.kind, epoch.verified) == (1, "full", True)
    assert epoch.tables["rides"].rows == 2000


def test_a_table_that_did_not_change_keeps_its_files_and_its_metadata(seeded_store: Store, lake: Lake):
    first = publish_snapshot(seeded_store, lake)
    with seeded_store.connect() as connection:
        connection.execute("SELECT top_up(1, 100)")
    second = publish_changes(seeded_store, lake, verify=True).epoch
    changed = {name for name, table in second.tables.items() if table.changed or table.deleted}
    assert changed == {"accounts", "ledger"}
    assert (second.tables["accounts"].changed, second.tables["ledger"].changed) == (1, 1)
    for name in second.tables.keys() - changed:
        before, after = first.tables[name], second.tables[name]
        assert after.files == before.files
        assert (after.metadata, after.snapshot_id) == (before.metadata, before.snapshot_id)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [12, pytest.param(250, marks=SLOW)])
def test_no_reader_sees_tables_of_two_epochs(seeded_store: Store, lake: Lake, epochs: int):
    """Each epoch adds one row to two tables. Maintenance runs as in `sync`."""
    publish_snapshot(seeded_store, lake)
    stop, faults, seen = threading.Event(), [], []

    def read() -> None:
        while not stop.is_set():
            # In one transaction, Iceberg's pointers are those of the newest epoch.
            with lake.catalog.engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")  # sqlite3 does not start a transaction for a SELECT
                number = connection.exec_driver_sql("SELECT max(number) FROM epochs").scalar_one()
                found = read_pointers(connection)
            epoch = numbered_epoch(lake.address, number)
            if found != {name: table.metadata for name, table in epoch.tables.items()}:
                faults.append(f"the pointers are not those of epoch {number}")
            newest = newest_epoch(lake.address)
            rows = {name: newest.tables[name].rows - base[name] for name in base}
            if len(set(rows.values())) != 1:
                faults.append(f"epoch {newest.number} has {rows}")
            seen.append(newest.number)
            time.sleep(0.05)  # gives the publisher time

    base = {name: newest_epoch(lake.address).tables[name].rows for name in ("ledger", "accounts")}
    reader = threading.Thread(target=read)
    reader.start()
    try:
        with seeded_store.connect() as connection:
            for number in range(1, epochs + 1):
                connection.execute(
                    "WITH a AS (INSERT INTO accounts (kind, balance_cents) VALUES ('rider', 0)"
                    " RETURNING account_id) SELECT top_up(1, 100)"
                )
                assert publish_changes(seeded_store, lake).is_new
                if number % 25 == 0:
                    maintain(lake, seeded_store, keep_epochs=25)
    finally:
        stop.set()
        reader.join()
    assert not faults
    assert seen == sorted(seen)
    assert len(set(seen)) > epochs / 10, "there were too few reads, so the test proves nothing"
