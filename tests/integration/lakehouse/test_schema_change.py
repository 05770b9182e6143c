"""After an ALTER TABLE, the next epoch has the new columns, and older epochs are unchanged."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow.compute as pc
import pytest
from bare_database import bare_database, rows_of, run

import lakehouse.source.snapshot
from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.capture.sync import sync_repeatedly
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake, open_catalog
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import numbered_epoch, read_epochs
from lakehouse.verify import verify_now
from oltp.cluster.server import Cluster
from oltp.store import Store, transaction
from ridelake.settings import Settings

# Polars warns that another package has a faster planner for Iceberg.
pytestmark = pytest.mark.filterwarnings("ignore:Iceberg scan planning")

PEOPLE = "CREATE TABLE people (id bigint PRIMARY KEY, name text NOT NULL, mood mood)"


@pytest.fixture
def people(cluster: Cluster, lake: Lake):
    """A store with a tracked table of two rows, which are in epoch 1."""
    with bare_database(cluster) as store:
        run(store, "CREATE TYPE mood AS ENUM ('glad', 'sad')", PEOPLE)
        run(store, "INSERT INTO people VALUES (1, 'Ada', 'glad'), (2, 'Zoë', 'sad')")
        track(store, "people")
        publish_changes(store, lake, tables=["people"])
        yield store


@pytest.fixture(params=["sync", pytest.param("snapshot", marks=pytest.mark.slow)])
def take(request, people: Store, lake: Lake):
    """A function that publishes the next epoch, and compares it with Postgres before the commit."""

    def by_changes() -> Epoch:
        return publish_changes(people, lake, verify=True).epoch

    return by_changes if request.param == "sync" else lambda: publish_snapshot(people, lake, verify=True)


def read_with_all_readers(lake: Lake, epoch: Epoch, query: str = "SELECT * FROM people") -> list[dict]:
    """The rows of `people` in the epoch, without `tx`. All readers must return the same rows."""
    found = []
    for name in ("duckdb", "polars"):
        with open_engine(name, Settings(home=Path("unused"), lake=lake.address), epoch) as engine:
            found.append(engine.sql(query).to_pylist())
    table = open_catalog(lake.address, 30).load_table(("ridelake", "people"))
    snapshot_id = epoch.tables["people"].snapshot_id
    found.append(table.scan(snapshot_id=snapshot_id).to_arrow().to_pylist())
    found.append(pl.scan_iceberg(table, snapshot_id=snapshot_id).collect().to_dicts())
    plain = [sorted(({**row, "tx": 0} for row in rows), key=lambda row: row["id"]) for rows in found]
    assert plain[0] == plain[1] == plain[2] == plain[3]
    return [{name: value for name, value in row.items() if name != "tx"} for row in plain[0]]


ADA, ZOE = {"id": 1, "name": "Ada", "mood": "glad"}, {"id": 2, "name": "Zoë", "mood": "sad"}


@pytest.mark.slow
def test_an_added_column_is_in_the_next_epoch_and_not_in_older_ones(take, people: Store, lake: Lake):
    run(people, "ALTER TABLE people ADD COLUMN age int")
    run(people, "UPDATE people SET age = 36 WHERE id = 1")
    second = take()
    assert read_with_all_readers(lake, second) == [ADA | {"age": 36}, ZOE | {"age": None}]
    run(people, "ALTER TABLE people ADD COLUMN points numeric(8, 2) NOT NULL DEFAULT 12.5",
        'ALTER TABLE people ADD COLUMN "a.b" uuid', "DELETE FROM people WHERE id = 2")  # fmt: skip
    third = take()
    assert [row["points"] for row in read_with_all_readers(lake, third)] == [pytest.approx(12.5)]
    assert read_with_all_readers(lake, second) == [ADA | {"age": 36}, ZOE | {"age": None}]
    assert read_with_all_readers(lake, numbered_epoch(lake.address, 1)) == [ADA, ZOE]
    run(people, "INSERT INTO people (id, name) VALUES (3, 'new')")
    fourth = take()
    verify_now(people, lake).prove()
    assert [row["id"] for row in read_with_all_readers(lake, fourth)] == [1, 3]


@pytest.mark.slow
def test_the_value_of_a_default_is_in_all_rows(take, people: Store, lake: Lake):
    run(people, "INSERT INTO people SELECT n, 'many' FROM generate_series(10, 30000) AS n")
    take()
    run(people, "ALTER TABLE people ADD COLUMN level int NOT NULL DEFAULT 7")
    epoch = take()
    table = open_catalog(lake.address, 30).load_table(("ridelake", "people")).scan().to_arrow()
    assert table.num_rows == epoch.rows == 29_993
    assert pc.all(pc.equal(table["level"], 7)).as_py()


@pytest.mark.slow
def test_a_column_may_become_nullable(take, people: Store, lake: Lake):
    run(people, "ALTER TABLE people ALTER name DROP NOT NULL", "UPDATE people SET name = NULL WHERE id = 1")
    assert read_with_all_readers(lake, take()) == [ADA | {"name": None}, ZOE]
    run(people, "UPDATE people SET name = 'again' WHERE id = 1", "ALTER TABLE people ALTER name SET NOT NULL")
    assert read_with_all_readers(lake, take()) == [ADA | {"name": "again"}, ZOE]
    assert read_with_all_readers(lake, numbered_epoch(lake.address, 1)) == [ADA, ZOE]


@pytest.mark.slow
def test_labels_of_an_enum_are_added_and_renamed_everywhere(take, people: Store, lake: Lake):
    run(people, "ALTER TYPE mood ADD VALUE 'proud'", "UPDATE people SET mood = 'proud' WHERE id = 1")
    assert read_with_all_readers(lake, take()) == [ADA | {"mood": "proud"}, ZOE]
    run(people, "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    assert read_with_all_readers(lake, take()) == [ADA | {"mood": "proud"}, ZOE | {"mood": "blue"}]


CHANGED = {
    "dropped": ("ALTER TABLE people DROP COLUMN mood", {"id": 2, "name": "Zoë"}),
    "renamed": ("ALTER TABLE people RENAME name TO called", {"id": 2, "called": "Zoë", "mood": "sad"}),
    "retyped": ("ALTER TABLE people ALTER name TYPE bytea USING 'x'", {"id": 2, "name": b"x", "mood": "sad"}),
    "null": ("ALTER TABLE people ALTER mood TYPE int USING NULL", {"id": 2, "name": "Zoë", "mood": None}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("what", CHANGED)
def test_a_column_may_be_dropped_renamed_or_retyped(take, people: Store, lake: Lake, what: str):
    statement, expected = CHANGED[what]
    run(people, statement, "DELETE FROM people WHERE id = 1")
    epoch = take()
    assert read_with_all_readers(lake, epoch) == [expected]
    run(people, "DELETE FROM people WHERE id = 2")
    assert read_with_all_readers(lake, take()) == []
    assert read_with_all_readers(lake, epoch) == [expected]
    assert read_with_all_readers(lake, numbered_epoch(lake.address, 1)) == [ADA, ZOE]


@pytest.mark.slow
def test_a_column_may_be_renamed_and_renamed_back(take, people: Store, lake: Lake):
    run(people, "ALTER TABLE people RENAME name TO called")
    take()
    run(people, "ALTER TABLE people RENAME called TO name", "UPDATE people SET name = 'Eva' WHERE id = 2")
    assert read_with_all_readers(lake, take()) == [ADA, ZOE | {"name": "Eva"}]
    assert read_with_all_readers(lake, numbered_epoch(lake.address, 1)) == [ADA, ZOE]


@pytest.mark.slow
def test_a_table_recreated_with_the_same_name_replaces_the_old_one(take, people: Store, lake: Lake):
    run(people, "DROP TABLE people", PEOPLE, "INSERT INTO people VALUES (2, 'Eva', NULL)")
    second = take()
    assert read_with_all_readers(lake, second) == [{"id": 2, "name": "Eva", "mood": None}]
    track(people, "people")
    take()
    run(people, "DELETE FROM people")
    assert read_with_all_readers(lake, take()) == []
    assert read_with_all_readers(lake, numbered_epoch(lake.address, 1)) == [ADA, ZOE]


@pytest.mark.slow
def test_a_table_may_be_altered_while_it_is_synced(people: Store, lake: Lake):
    """ALTER waits for the current epoch. Each epoch has the table before or after the ALTER."""
    for number in range(4):
        run(people, f"ALTER TABLE people ADD COLUMN more_{number} int DEFAULT {number}")
        assert publish_changes(people, lake, verify=True).epoch.verified
        maintain(lake, people, keep_epochs=3)
    assert len({epoch.token for epoch in read_epochs(lake.address)}) == 3
    for epoch in read_epochs(lake.address):
        assert len(read_with_all_readers(lake, epoch)) == 2
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'people'::regclass AND attnum > 0"
    assert rows_of(people, columns) == [(8,)]


def test_a_migration_of_several_tables_does_not_deadlock_with_an_epoch(
    people: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    """An epoch that kept `people` locked while it waits for `pets` would deadlock with the second ALTER."""
    run(people, "CREATE TABLE pets (id bigint PRIMARY KEY)", "INSERT INTO pets VALUES (1)")
    original, locking = lakehouse.source.snapshot.lock_tables, threading.Event()

    def lock_tables(*arguments) -> None:
        locking.set()
        original(*arguments)

    monkeypatch.setattr(lakehouse.source.snapshot, "lock_tables", lock_tables)
    with ThreadPoolExecutor(1) as pool, people.connect() as user:
        user.execute("SET deadlock_timeout = '10ms'")  # less than the epoch waits
        with transaction(user):
            user.execute("ALTER TABLE pets ADD COLUMN name text")
            epoch = pool.submit(publish_changes, people, lake, tables=["people", "pets"], verify=True)
            assert locking.wait(30)
            time.sleep(0.2)
            user.execute("ALTER TABLE people ADD COLUMN age int")
        assert epoch.result(30).epoch.tables["pets"].rows == 1


def test_a_long_migration_delays_an_epoch_and_sync_retries(
    people: Store, lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lakehouse.source.snapshot, "LOCK_SECONDS_MAX", 0.1)
    run(people, "INSERT INTO people VALUES (3, 'Eve', 'sad')")
    epochs = sync_repeatedly(0, people, lake)
    with people.connect() as user, transaction(user):
        user.execute("LOCK TABLE people")
        trouble = next(epochs).trouble
        assert trouble is not None
        assert 'within 0.1 s (could not obtain lock on relation "public.people")' in trouble
        assert trouble.endswith("`ridelake sync` retries every 0.2 s")
    assert next(epochs).is_new
