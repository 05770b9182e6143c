"""Changed and deleted rows are recorded in delete files, and every reader applies these."""

import json
import os
import random
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pyarrow as pa
import pytest
from bare_database import rows_of, run
from iceberg_readers import READERS, duckdb_iceberg, duckdb_iceberg_folder  # noqa: F401  (fixtures)
from installed_engines import EVERY_ENGINE
from psycopg import errors

from lakehouse.capture.maintain import maintain
from lakehouse.capture.overlay import open_overlay
from lakehouse.capture.publish import publish_changes
from lakehouse.engines import ENGINES, open_engine, open_engines
from lakehouse.engines.duckdb import opened
from lakehouse.source.tracking import track
from lakehouse.table.catalog import CommitConflict, Lake
from lakehouse.table.deletes import deleted_rows
from lakehouse.table.epoch import Epoch
from lakehouse.table.key_index import index_location
from lakehouse.table.published import newest_epoch, read_epochs
from lakehouse.verify import verify_files, verify_now
from oltp.store import Store
from ridelake.settings import LakeAddress, Settings

ROWS = 600
# Table → the columns of the key, and the expression of a key from a number.
KEYS = {
    "numbers": ("id bigint PRIMARY KEY", "({n})"),
    "names": ("id text PRIMARY KEY", "('key ' || {n})"),
    "uuids": ("id uuid PRIMARY KEY", "(md5(({n})::text)::uuid)"),
    "pairs": ("region int, id text, PRIMARY KEY (region, id)", "({n}) % 3, 'é' || ({n})"),
    "prices": (
        "id numeric(12, 4), day date, PRIMARY KEY (id, day)",
        "({n}) / 7.0, date '2024-02-28' + ({n}) % 5",
    ),
}


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Files of 150 rows instead of 245,760."""
    monkeypatch.setattr("lakehouse.table.layout.ROW_GROUP_ROWS", 50)
    monkeypatch.setattr("lakehouse.capture.writer.RUN_ROWS", 150)
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", 60)
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")


@pytest.fixture
def keyed(bare: Store, lake: Lake) -> Store:
    """A table for each kind of key. The files have 150 rows."""
    for table, (columns, _) in KEYS.items():
        run(bare, f"CREATE TABLE {table} (word text, n int NOT NULL, {columns})")
        track(bare, table)
    publish_changes(bare, lake, tables=list(KEYS))
    for table in KEYS:
        insert(bare, table, f"generate_series(1, {ROWS})")
    publish_changes(bare, lake)
    return bare


def insert(store: Store, table: str, numbers: str) -> None:
    columns, key = KEYS[table]
    names = ", ".join(
        part.split()[0] for part in columns.split(", PRIMARY")[0].split(", ") if "4)" not in part
    )
    run(
        store,
        f"INSERT INTO {table} (word, n, {names}) "
        f"SELECT 'word ' || n, n, {key.format(n='n')} FROM {numbers} AS s (n) ON CONFLICT DO NOTHING",
    )


def change(store: Store, seed: int, *, keys_too: bool = True) -> None:
    """Update, delete, and delete and insert again about 2 % of the rows of each table. Update a few keys."""
    numbers = random.Random(seed)
    for table in KEYS:
        updated, deleted, again = (numbers.sample(range(1, ROWS), 15) for _ in range(3))
        run(
            store,
            f"UPDATE {table} SET word = 'epoch {seed}' WHERE n = ANY ('{set(updated)}')",
            f"DELETE FROM {table} WHERE n = ANY ('{set(deleted)}')",
            f"DELETE FROM {table} WHERE n = ANY ('{set(again)}')",
        )
        insert(store, table, f"unnest('{set(again)}'::int[])")
    if keys_too:
        run(store, f"UPDATE numbers SET id = id + {ROWS * seed} WHERE n IN ({seed}, {seed + 1})")


def rows_in(rows: pa.Table) -> list[tuple]:
    return sorted(zip(*(rows[name].to_pylist() for name in ("n", "word")), strict=True))


def in_postgres(store: Store, table: str) -> list[tuple]:
    return sorted(rows_of(store, f"SELECT n, word FROM {table}"))


def marked(epoch: Epoch) -> int:
    return sum(file.deleted for file in epoch.files)


def test_a_file_with_few_changed_rows_is_kept_and_their_positions_are_recorded(keyed: Store, lake: Lake):
    before = newest_epoch(lake.address)
    run(keyed, "UPDATE numbers SET word = 'new' WHERE n IN (5, 400)", "DELETE FROM numbers WHERE n = 401")
    after = publish_changes(keyed, lake, verify=True).epoch
    old, new = before.tables["numbers"], after.tables["numbers"]
    assert set(old.locations) <= set(new.locations)
    assert (new.rows, marked(after)) == (ROWS - 1, 3)
    deleted = deleted_rows(lake.address, new)
    assert sum(map(len, deleted.values())) == 3
    with opened(Settings(home=Path("unused"), lake=lake.address), before) as engine:
        assert engine.sql("SELECT count(*) AS n FROM numbers").to_pylist() == [{"n": ROWS}]


@pytest.mark.slow
def test_epochs_of_random_changes_are_equal_for_every_kind_of_key(keyed: Store, lake: Lake):
    for seed in range(2, 9):
        change(keyed, seed)
        epoch = publish_changes(keyed, lake, verify=True).epoch
        assert all(len(table.deletes) < 16 for table in epoch.tables.values())
        for table in KEYS:
            assert rows_in(READERS["pyiceberg"](epoch.tables[table].metadata)) == in_postgres(keyed, table)
        if seed % 4 == 0:
            maintain(lake, keyed)
            assert all(one.equal for one in verify_now(keyed, lake).comparisons)
    assert marked(epoch) > 0


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_every_engine_omits_the_deleted_rows(keyed: Store, lake: Lake, engine: str):
    for seed in (2, 3):
        change(keyed, seed)
        epoch = publish_changes(keyed, lake, verify=True).epoch
    assert all(any(file.deleted for file in table.files) for table in epoch.tables.values())
    settings = Settings(home=Path("unused"), lake=lake.address, dsn=keyed.conninfo)
    with open_engine(engine, settings, epoch) as opened:
        for table in KEYS:
            assert rows_in(opened.sql(f"SELECT n, word FROM {table}")) == in_postgres(keyed, table)
            some = opened.sql(f"SELECT count(*) AS c FROM {table} WHERE n BETWEEN 100 AND 200").to_pylist()
            assert some[0]["c"] == sum(100 <= n <= 200 for n, _ in in_postgres(keyed, table))


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_every_iceberg_reader_omits_the_deleted_rows(keyed: Store, lake: Lake, reader: str):
    for seed in (2, 3, 4):
        change(keyed, seed)
        epoch = publish_changes(keyed, lake).epoch
    for table in KEYS:
        read = READERS[reader](epoch.tables[table].metadata)
        assert rows_in(read) == in_postgres(keyed, table)


@pytest.mark.slow
def test_the_iceberg_extension_of_duckdb_omits_the_deleted_rows(keyed: Store, lake: Lake, duckdb_iceberg):  # noqa: F811
    for seed in (2, 3, 4):
        change(keyed, seed)
        epoch = publish_changes(keyed, lake).epoch
    for table in KEYS:
        assert rows_in(duckdb_iceberg(epoch.tables[table].metadata)) == in_postgres(keyed, table)


def test_a_key_that_is_deleted_and_inserted_again_is_present_once(keyed: Store, lake: Lake):
    run(keyed, "DELETE FROM names WHERE n = 9")
    publish_changes(keyed, lake, verify=True)
    insert(keyed, "names", "generate_series(9, 9)")
    publish_changes(keyed, lake, verify=True)
    run(keyed, "DELETE FROM names WHERE n = 9")
    insert(keyed, "names", "generate_series(9, 9)")
    run(keyed, "UPDATE names SET word = 'again' WHERE n = 9")
    publish_changes(keyed, lake, verify=True)
    assert [row for row in in_lake(lake, "names") if row[0] == 9] == [(9, "again")]


def in_lake(lake: Lake, table: str) -> list[tuple]:
    with opened(Settings(home=Path("unused"), lake=lake.address), newest_epoch(lake.address)) as engine:
        return rows_in(engine.sql(f"SELECT n, word FROM {table}"))


def test_a_file_of_which_most_rows_changed_is_rewritten(keyed: Store, lake: Lake):
    before = newest_epoch(lake.address)
    run(keyed, "UPDATE numbers SET word = 'new' WHERE n <= 100")  # of the 150 rows in the file
    after = publish_changes(keyed, lake, verify=True).epoch
    assert len(set(before.tables["numbers"].locations) - set(after.tables["numbers"].locations)) == 1
    assert (marked(after), after.tables["numbers"].deletes) == (0, ())


def test_a_truncated_table_has_no_delete_files(keyed: Store, lake: Lake):
    change(keyed, 2)
    publish_changes(keyed, lake)
    run(keyed, "TRUNCATE names", "INSERT INTO names (word, n, id) VALUES ('only', 1, 'one')")
    epoch = publish_changes(keyed, lake, verify=True).epoch
    assert (epoch.tables["names"].rows, epoch.tables["names"].deletes) == (1, ())


def test_maintenance_rewrites_files_with_many_deleted_rows_and_leaves_no_orphan(
    keyed: Store, lake: Lake, monkeypatch
):
    monkeypatch.setattr("lakehouse.capture.maintain.FOLD_SHARE", 0.001)
    for seed in (2, 3, 4, 5):
        change(keyed, seed)
        before = publish_changes(keyed, lake).epoch
    assert marked(before) > 0
    assert any(len(table.deletes) > 1 for table in before.tables.values())
    done = maintain(lake, keyed, keep_epochs=1)
    after = newest_epoch(lake.address)
    assert done.epochs_expired == 5
    assert marked(after) == 0
    assert not any(table.deletes for table in after.tables.values())
    assert all(one.equal for one in verify_now(keyed, lake).comparisons)
    folder = Path(lake.address.root)
    epochs = read_epochs(lake.address)
    referenced = {file.location for epoch in epochs for file in epoch.stored_files}
    assert {str(path) for path in folder.rglob("data/*")} == referenced
    assert {str(path) for path in folder.rglob("keys/*")} <= set(map(index_location, referenced))


def test_older_epochs_keep_their_rows_until_they_expire(keyed: Store, lake: Lake):
    states = []
    for seed in (2, 3, 4):
        change(keyed, seed)
        epoch = publish_changes(keyed, lake).epoch
        states.append((epoch, {table: in_postgres(keyed, table) for table in KEYS}))
    maintain(lake, keyed)
    for epoch, expected in states:
        with opened(Settings(home=Path("unused"), lake=lake.address), epoch) as engine:
            for table, rows in expected.items():
                assert rows_in(engine.sql(f"SELECT n, word FROM {table}")) == rows
        assert verify_files(lake.address, epoch.number) == len(epoch.stored_files)


@pytest.mark.parametrize("damage", ["missing", "truncated", "of another file", "of another version"])
def test_a_damaged_key_index_is_written_again(keyed: Store, lake: Lake, damage: str):
    change(keyed, 2)
    publish_changes(keyed, lake)
    paths = sorted(Path(lake.address.root).rglob("keys/*.keys"))
    assert paths
    for path, other in zip(paths, [*paths[1:], paths[0]], strict=True):
        content = path.read_bytes()
        path.unlink()
        if damage == "truncated":
            path.write_bytes(content[:-5])
        elif damage == "of another file":
            path.write_bytes(other.read_bytes() if other.exists() else content[:1024])
        elif damage == "of another version":
            path.write_bytes(content.replace(b"polars", b"polers", 1)[:-1] + b"!")
    change(keyed, 3)
    publish_changes(keyed, lake, verify=True)


def test_a_reader_that_may_not_write_to_the_lake_asks_with_fresh(keyed: Store, lake: Lake, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("lakehouse.table.key_index._write", refuse)
    change(keyed, 2)
    publish_changes(keyed, lake)
    change(keyed, 3)
    settings = Settings(home=Path("unused"), lake=lake.address, dsn=keyed.conninfo)
    with open_overlay(settings, newest_epoch(lake.address)) as fresh, opened(settings, fresh) as engine:
        for table in KEYS:
            assert rows_in(engine.sql(f"SELECT n, word FROM {table}")) == in_postgres(keyed, table)


def test_a_lake_that_was_moved_is_read_without_its_deleted_rows(keyed: Store, lake: Lake, tmp_path: Path):
    change(keyed, 2)
    publish_changes(keyed, lake)
    shutil.move(lake.address.root, tmp_path / "elsewhere")
    there = LakeAddress.at(tmp_path / "elsewhere")
    settings = Settings(home=Path("unused"), lake=there)
    for name in ("duckdb", "polars", "pyarrow"):
        with open_engine(name, settings, newest_epoch(there)) as engine:
            assert rows_in(engine.sql("SELECT n, word FROM names")) == in_postgres(keyed, "names")


def test_a_lake_of_the_previous_format_is_read_and_upgraded_by_the_next_epoch(keyed: Store, lake: Lake):
    catalog = sqlite3.connect(lake.address.catalog_file)
    for number, tables in catalog.execute("SELECT number, tables FROM epochs").fetchall():
        old = json.loads(tables)
        for table in old.values():
            del table["deletes"], table["key"]
            for file in table["files"]:
                del file["deleted"]
        catalog.execute("UPDATE epochs SET tables = ? WHERE number = ?", (json.dumps(old), number))
    catalog.execute("UPDATE lake SET format = 2")
    catalog.commit()
    assert in_lake(lake, "names") == in_postgres(keyed, "names")
    change(keyed, 2)
    publish_changes(keyed, Lake.create(lake.address), verify=True)
    assert catalog.execute("SELECT format FROM lake").fetchall() == [(3,)]
    assert in_lake(lake, "names") == in_postgres(keyed, "names")


def test_floating_point_keys_are_found_without_an_index(bare: Store, lake: Lake):
    run(bare, "CREATE TABLE points (x float8 PRIMARY KEY, word text)")
    run(bare, "INSERT INTO points SELECT n, 'w' FROM generate_series(1, 500) AS n")
    run(bare, "INSERT INTO points VALUES ('NaN', 'w'), (0, 'w'), ('-Infinity', 'w')")
    track(bare, "points")
    publish_changes(bare, lake, tables=["points"])
    run(bare, "UPDATE points SET word = 'new' WHERE x IN ('NaN', 0, 7)", "DELETE FROM points WHERE x = 8")
    epoch = publish_changes(bare, lake, verify=True).epoch
    assert marked(epoch) == 0
    assert not Path(lake.address.root, "points", "keys").exists()


@pytest.mark.parametrize("seal_rows", [1, 20_000])
def test_nan_keys_are_equal_even_with_different_bits(bare: Store, lake: Lake, monkeypatch, seal_rows: int):
    monkeypatch.setattr("lakehouse.capture.writer.SEAL_ROWS", seal_rows)
    run(bare, "CREATE TABLE points (x float8, y float4, word text, PRIMARY KEY (x, y))")
    run(bare, "INSERT INTO points VALUES ('NaN', 'NaN', 'a'), (1, 0, 'b')")
    track(bare, "points")
    publish_changes(bare, lake, tables=["points"])
    run(bare, "UPDATE points SET x = -x, y = -y, word = 'c'")  # the sign bit of the NaN is set now
    assert publish_changes(bare, lake, verify=True).epoch.rows == 2
    verify_now(bare, lake).prove()
    run(bare, "DELETE FROM points WHERE x = 'NaN'")
    assert publish_changes(bare, lake, verify=True).epoch.rows == 1


def _write(store: Store, number: int, stop: threading.Event) -> None:
    """Change random rows of all tables until `stop` is set. Two writers may change the same row."""
    numbers = random.Random(number)
    while not stop.wait(0.1):
        with suppress(errors.DeadlockDetected):  # two writers have locked the same rows in opposite orders
            change(store, 1000 * number + numbers.randrange(1000), keys_too=False)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_reader_sees_the_rows_of_postgres_in_each_of_many_epochs(keyed: Store, lake: Lake):
    """Eight writers. RIDELAKE_TEST_EPOCHS epochs, by default 10. All readers read every fifth epoch."""
    stop, settings = threading.Event(), Settings(home=Path("unused"), lake=lake.address)
    engines = [name for name, package in ENGINES.items() if package.here and name != "postgres"]
    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(_write, keyed, number, stop) for number in range(1, 9)]
        try:
            for number in range(1, int(os.environ.get("RIDELAKE_TEST_EPOCHS", "10")) + 1):
                epoch = publish_changes(keyed, lake, verify=True).epoch
                if number % 7 == 0:
                    with suppress(CommitConflict):
                        epoch = maintain(lake, keyed, keep_epochs=10).epoch or epoch
                if number % 5 == 0:
                    _assert_all_readers_agree(settings, epoch, engines)
                assert not any(writer.done() for writer in writers)
        finally:
            stop.set()
    for writer in writers:
        writer.result()
    assert publish_changes(keyed, lake, verify=True).epoch.verified


def _assert_all_readers_agree(settings: Settings, epoch: Epoch, engines: list[str]) -> None:
    """Compare the readers with the first engine. The epoch was already compared with Postgres."""
    with ExitStack() as stack:
        first, *others = stack.enter_context(open_engines(engines, settings, epoch))
        for table in KEYS:
            expected = rows_in(first.sql(f"SELECT n, word FROM {table}"))
            for engine in others:
                assert rows_in(engine.sql(f"SELECT n, word FROM {table}")) == expected, engine.name
            for reader in READERS:
                read = READERS[reader](epoch.tables[table].metadata)
                assert rows_in(read) == expected, reader
