"""A lake with its catalog in a Postgres database has the same guarantees."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from killed_client import LOST_THE_RACE, referenced, syncing_process, wait_until_stopped
from lake_files import data_files, files_of
from psycopg.sql import SQL, Identifier
from pyiceberg.catalog.sql import SqlCatalog
from random_writes import random_writers
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.table.catalog import CommitConflict, Lake, read_pointers
from lakehouse.table.published import epoch_as_of, newest_epoch, numbered_epoch, read_epochs
from lakehouse.verify import verify_now
from oltp.cluster.server import Cluster
from oltp.store import Store
from ridelake.errors import NotReady, UsageError
from ridelake.settings import LakeAddress

# The tables of Iceberg's JDBC catalog, schema version V1 (org.apache.iceberg.jdbc.JdbcUtil): each column, its
# length, and whether it can be NULL. The first three columns are the primary key.
JDBC_COLUMNS = {
    "iceberg_tables": [
        ("catalog_name", 255, "NO"), ("table_namespace", 255, "NO"), ("table_name", 255, "NO"),
        ("metadata_location", 1000, "YES"), ("previous_metadata_location", 1000, "YES"),
        ("iceberg_type", 5, "YES"),
    ],
    "iceberg_namespace_properties": [
        ("catalog_name", 255, "NO"), ("namespace", 255, "NO"), ("property_key", 255, "NO"),
        ("property_value", 1000, "NO"),  # NOT NULL in pyiceberg, but not in JdbcUtil
    ],
}  # fmt: skip


@pytest.fixture
def lake(cluster: Cluster, tmp_path: Path) -> Iterator[Lake]:
    """A lake with its files in a folder and its catalog in a Postgres database."""
    name = f"catalog_{tmp_path.name}_{tmp_path.parent.name}"[:60]
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        where = psycopg.conninfo.conninfo_to_dict(cluster.conninfo(name))
        admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            url = f"postgresql+psycopg://{where['user']}@/{name}?host={where['host']}"
            yield Lake.create(LakeAddress.at(tmp_path / "lake", url))
        finally:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.mark.slow
def test_several_processes_create_the_catalog_at_the_same_time(lake: Lake):
    for _ in range(5):
        with lake.catalog.engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        with ThreadPoolExecutor(4) as threads:
            names = ("berlin", "paris", "rome", "oslo")
            opened = list(threads.map(lambda name: Lake.create(lake.address, name), names))
        assert [one.store for one in opened] == list(names)
        with lake.catalog.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT format FROM lake").fetchall() == [(3,)]


@pytest.mark.parametrize("table", JDBC_COLUMNS)
def test_the_catalog_has_the_tables_of_the_jdbc_catalog(lake: Lake, table: str):
    with lake.catalog.engine.connect() as connection:
        columns = connection.execute(
            text(
                "SELECT column_name, character_maximum_length, is_nullable, data_type"
                " FROM information_schema.columns WHERE table_name = :table ORDER BY ordinal_position"
            ),
            {"table": table},
        ).fetchall()
        key = connection.execute(
            text(
                "SELECT attname FROM pg_index"
                " JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)"
                " WHERE indrelid = CAST(:table AS regclass) AND indisprimary ORDER BY attnum"
            ),
            {"table": table},
        ).fetchall()
    assert [tuple(column) for column in columns] == [
        (*column, "character varying") for column in JDBC_COLUMNS[table]
    ]
    assert [name for (name,) in key] == [column[0] for column in JDBC_COLUMNS[table][:3]]


def test_the_rows_of_the_catalog_equal_those_of_the_jdbc_catalog(seeded_store: Store, lake: Lake):
    first = publish_snapshot(seeded_store, lake)
    with seeded_store.connect() as connection:
        connection.execute("SELECT top_up(1, 100)")
    epoch = publish_changes(seeded_store, lake).epoch
    with lake.catalog.engine.connect() as connection:
        tables = connection.execute(text("SELECT * FROM iceberg_tables ORDER BY table_name")).fetchall()
        properties = connection.execute(text("SELECT * FROM iceberg_namespace_properties")).fetchall()
    before = {
        name: old.metadata if old.metadata != epoch.tables[name].metadata else None
        for name, old in first.tables.items()
    }
    assert before["accounts"] is not None
    assert [tuple(row) for row in tables] == [
        ("ridelake", "ridelake", name, epoch.tables[name].metadata, before[name], "TABLE")
        for name in sorted(epoch.tables)
    ]
    assert [tuple(row) for row in properties] == [("ridelake", "ridelake", "exists", "true")]


def test_another_program_that_may_only_read_opens_the_catalog(seeded_store: Store, lake: Lake):
    epoch = publish_snapshot(seeded_store, lake)
    url = f"{lake.address.catalog_url}&options=-crole%3Dpg_read_all_data"
    catalog = SqlCatalog("ridelake", uri=url)
    try:
        assert catalog.list_namespaces() == [("ridelake",)]
        assert {name for _, name in catalog.list_tables("ridelake")} == epoch.tables.keys()
        for name, table in epoch.tables.items():
            assert catalog.load_table(("ridelake", name)).scan().to_arrow().num_rows == table.rows
        with pytest.raises(ProgrammingError, match="permission denied"):
            catalog.drop_table("ridelake.rides")
    finally:
        catalog.engine.dispose()


def test_a_missing_privilege_on_the_catalog_is_named(seeded_store: Store, lake: Lake):
    publish_snapshot(seeded_store, lake)
    url = f"{lake.address.catalog_url}&options=-crole%3Dpg_monitor"
    with pytest.raises(UsageError, match=r"permission denied for table .*run GRANT SELECT ON TABLE"):
        newest_epoch(LakeAddress.at(lake.address.folder, url))


def test_a_missing_catalog_option_is_reported_and_no_file_is_deleted(seeded_store: Store, lake: Lake):
    publish_snapshot(seeded_store, lake)
    before = data_files(lake.address.folder)
    with pytest.raises(UsageError, match=r"has epochs that the catalog .* does not list: pass the catalog"):
        Lake.create(LakeAddress.at(lake.address.folder))
    assert data_files(lake.address.folder) == before
    assert verify_now(seeded_store, lake).as_dict()["equal"]


def test_a_lake_works_by_another_path_and_a_moved_one_is_read_only(seeded_store, tmp_path: Path):
    first = Lake.create(LakeAddress.at(tmp_path / "first"))
    publish_snapshot(seeded_store, first)
    (tmp_path / "link").symlink_to(tmp_path / "first")
    assert publish_changes(seeded_store, Lake.create(LakeAddress.at(tmp_path / "link"))).epoch.number == 1
    (tmp_path / "first").rename(tmp_path / "moved")
    moved = Lake.create(LakeAddress.at(tmp_path / "moved"))
    assert newest_epoch(moved.address).number == 1
    with pytest.raises(UsageError, match=r"belongs to the lake .*first, not to .*moved: .* is read-only"):
        publish_changes(seeded_store, moved)


@pytest.mark.slow
def test_epochs_with_four_concurrent_writers_are_equal(seeded_store: Store, lake: Lake, broken):
    with pytest.raises(NotReady, match="no epoch yet"):
        newest_epoch(lake.address)
    first = publish_snapshot(seeded_store, lake)
    with random_writers(seeded_store, 4):
        for number in range(2, 6):
            epoch = publish_changes(seeded_store, lake, verify=True).epoch
            assert (epoch.number, epoch.kind, epoch.verified) == (number, "changes", True)
            assert not broken(epoch)
            assert newest_epoch(lake.address) == epoch
    assert verify_now(seeded_store, lake).as_dict()["equal"]
    assert publish_changes(seeded_store, lake).is_new
    assert not publish_changes(seeded_store, lake).is_new
    assert [one.number for one in read_epochs(lake.address)] == [6, 5, 4, 3, 2, 1]
    assert [one.number for one in read_epochs(lake.address, limit=2)] == [6, 5]
    assert numbered_epoch(lake.address, 1) == first == epoch_as_of(lake.address, first.token.taken_at)
    maintain(lake, seeded_store, keep_epochs=2)
    assert {str(path) for path in files_of(lake.address.folder)} == referenced(lake)
    assert not (lake.address.folder / "catalog.sqlite").exists()


@pytest.mark.slow
def test_no_reader_sees_pointers_of_two_epochs(seeded_store: Store, lake: Lake):
    publish_snapshot(seeded_store, lake)
    stop, faults, seen = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            with lake.catalog.engine.connect().execution_options(isolation_level="REPEATABLE READ") as one:
                number = one.execute(text("SELECT max(number) FROM epochs")).scalar_one()
                found = read_pointers(one)
            epoch = numbered_epoch(lake.address, number)
            if found != {name: table.metadata for name, table in epoch.tables.items()}:
                faults.append(number)
            seen.add(number)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with seeded_store.connect() as connection:
            for _ in range(8):
                connection.execute("SELECT top_up(1, 100)")
                publish_changes(seeded_store, lake)
    finally:
        stop.set()
        reader.join()
    assert not faults
    assert len(seen) > 2


@pytest.mark.slow
def test_concurrent_publishers_do_not_mix_epochs(seeded_store: Store, lake: Lake):
    won, lost = [], []

    def run() -> None:
        mine = Lake.create(lake.address)
        for _ in range(3):
            try:
                won.append(publish_snapshot(seeded_store, mine).number)
            except CommitConflict as error:
                lost.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(1, len(won) + 1))
    assert len(won) + len(lost) == 9, "a publisher failed with another error"
    assert lost, "there was no conflict, so the test proves nothing"
    published = {Path(file.location) for epoch in read_epochs(lake.address) for file in epoch.files}
    assert data_files(lake.address.folder) == published


@pytest.mark.slow
def test_after_a_kill_the_newest_epoch_is_the_old_or_the_new_one(seeded_store: Store, lake: Lake):
    publish_snapshot(seeded_store, lake)
    for step, published in (
        ("lakehouse.table.storage.Storage.settle", False),
        ("lakehouse.table.catalog.move_pointers", False),
        ("lakehouse.table.catalog.delete", False),
        ("lakehouse.table.catalog.Lake.write_manifest", True),
    ):
        before = newest_epoch(lake.address).number
        with syncing_process(seeded_store, lake.address, at=step) as process:
            process.join(60)
            assert process.exitcode == -signal.SIGKILL, step
        newest = lake.newest()
        assert newest is not None
        assert newest.number == before + published, step
        assert publish_changes(seeded_store, lake).is_new != published, step
    maintain(lake, seeded_store)
    assert {str(path) for path in files_of(lake.address.folder)} == referenced(lake)
    assert verify_now(seeded_store, lake).as_dict()["equal"]


@pytest.mark.slow
def test_a_process_that_was_stopped_and_resumes_cannot_publish(seeded_store: Store, lake: Lake):
    publish_snapshot(seeded_store, lake)
    with syncing_process(
        seeded_store, lake.address, at="lakehouse.capture.writer.EpochDraft.publish", sends=signal.SIGSTOP
    ) as stopped:
        wait_until_stopped(stopped)
        successor = publish_changes(seeded_store, lake, verify=True).epoch
        assert stopped.pid is not None
        os.kill(stopped.pid, signal.SIGCONT)
        stopped.join(60)
        assert stopped.exitcode == LOST_THE_RACE
    assert newest_epoch(lake.address) == successor
    assert {str(path) for path in files_of(lake.address.folder)} == referenced(lake)


def test_a_lake_of_another_format_is_refused(lake: Lake):
    with lake.catalog.engine.begin() as connection:
        connection.execute(text("UPDATE lake SET format = 5"))
    for attempt in (lambda: Lake.create(lake.address), lambda: newest_epoch(lake.address)):
        with pytest.raises(
            UsageError,
            match="format 5 of a newer version of ridelake; this version supports the formats 2 to 4",
        ):
            attempt()


def test_stores_that_publish_at_the_same_time_lose_no_epoch(
    lake: Lake, seeded_store: Store, other_seeded_store: Store
):
    """Each commit is a Postgres transaction, which can fail because of a concurrent one."""
    failures: list[BaseException] = []

    def publish(name: str, store: Store) -> None:
        try:
            mine = Lake.create(lake.address, name)
            publish_snapshot(store, mine)
            for rider in range(1, 9):
                with store.connect() as connection:
                    connection.execute("SELECT top_up(%s, 100)", (rider,))
                assert publish_changes(store, mine).is_new
        except BaseException as error:
            failures.append(error)

    stores = {"berlin": seeded_store, "paris": other_seeded_store}
    threads = [threading.Thread(target=publish, args=pair) for pair in stores.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [epoch.number for epoch in read_epochs(lake.address)] == list(range(18, 0, -1))
    for name, store in stores.items():
        assert verify_now(store, Lake.create(lake.address, name)).tail_rows == (0,) * 9
