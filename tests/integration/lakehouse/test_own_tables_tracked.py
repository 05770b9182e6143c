"""A tracked table is copied incrementally and equals Postgres. Untracking removes all its objects."""

import random
import threading
from pathlib import Path

import psycopg
import pytest
from bare_database import rows_of, run
from own_tables import ORDERS, asked, kind_of

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track, untrack
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.errors import BadInput, NotReady
from ridelake.settings import LakeAddress, Settings


def test_a_tracked_table_is_copied_incrementally(orders: Store, lake: Lake):
    run(orders, "UPDATE orders SET what = 'new' WHERE id <= 3", "DELETE FROM orders WHERE id = 4")
    taken = publish_changes(orders, lake, verify=True)
    assert (taken.epoch.changed, taken.epoch.deleted, taken.epoch.rows) == (3, 1, 999)
    assert not publish_changes(orders, lake).is_new


def test_untracking_removes_all_objects_and_the_table_is_copied_completely(orders: Store, lake: Lake):
    run(orders, "DELETE FROM orders WHERE id = 1")
    untrack(orders, "orders")
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0"
    assert rows_of(orders, f"{columns} AND NOT attisdropped ORDER BY 1") == [("id",), ("price",), ("what",)]
    assert rows_of(orders, "SELECT FROM pg_trigger WHERE tgrelid = 'orders'::regclass") == []
    assert rows_of(
        orders, "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'orders'::regclass"
    ) == [("orders_pkey",)]
    assert rows_of(orders, "SELECT FROM ridelake_tracking.tombstones") == []
    run(orders, "INSERT INTO orders VALUES (5000, 'unstamped', 1)")
    assert kind_of(publish_changes(orders, lake, verify=True)) == "whole"
    assert "tx" not in asked(lake, "SELECT * FROM orders WHERE id = 5000")[0]
    track(orders, "orders")
    assert kind_of(publish_changes(orders, lake, verify=True)) == "whole"
    run(orders, "DELETE FROM orders WHERE id = 5000")
    taken = publish_changes(orders, lake, verify=True)
    assert (taken.epoch.changed, taken.epoch.deleted) == (0, 1)


# Statements after which untracked changes are possible.
UNTRACKED_CHANGES = {
    "a trigger disabled": [
        "ALTER TABLE orders DISABLE TRIGGER ridelake_deleted", "DELETE FROM orders WHERE id = 9",
    ],
    "a trigger disabled temporarily": [
        "ALTER TABLE orders DISABLE TRIGGER ridelake_deleted", "DELETE FROM orders WHERE id = 9",
        "ALTER TABLE orders ENABLE ALWAYS TRIGGER ridelake_deleted",
    ],
    "inherited temporarily": [
        "CREATE TABLE parent (price numeric(10, 2))", "ALTER TABLE orders INHERIT parent",
        "DELETE FROM parent WHERE price = 9", "ALTER TABLE orders NO INHERIT parent",
    ],
    "the trigger of replication dropped": [
        "DROP TRIGGER ridelake_replicated ON orders", "SET session_replication_role = replica",
        "DELETE FROM orders WHERE id = 9",
    ],
    "the trigger of replication disabled": [
        "ALTER TABLE orders ENABLE TRIGGER ridelake_replicated", "SET session_replication_role = replica",
        "DELETE FROM orders WHERE id = 9",
    ],
    "all triggers disabled temporarily": [
        "ALTER TABLE orders DISABLE TRIGGER ALL", "UPDATE orders SET price = 0",
        "ALTER TABLE orders ENABLE TRIGGER ALL",
    ],
    "a trigger dropped": ["DROP TRIGGER zzz_ridelake_stamp ON orders", "UPDATE orders SET price = 0"],
    "a column rewritten with the same type": [
        "ALTER TABLE orders ALTER price TYPE numeric(10, 2) USING price * 2",
    ],
    "a column dropped and added again": [
        "ALTER TABLE orders DROP COLUMN price",
        "ALTER TABLE orders ADD COLUMN price numeric(10, 2) DEFAULT 3",
    ],
    "another column is the key": [
        "ALTER TABLE orders DROP CONSTRAINT orders_pkey", "ALTER TABLE orders ADD PRIMARY KEY (what)",
        "DELETE FROM orders WHERE id = 9",
    ],
    "rows in a table that inherits": [
        "CREATE TABLE more () INHERITS (orders)", "INSERT INTO more VALUES (-1, 'more', 1)",
    ],
    "the tables of tracking restored from a dump": [
        "DELETE FROM orders WHERE id = 9",
        "CREATE TEMP TABLE dump AS SELECT * FROM ridelake_tracking.tracked;"
        " DELETE FROM ridelake_tracking.tracked; DELETE FROM ridelake_tracking.tombstones;"
        " INSERT INTO ridelake_tracking.tracked SELECT * FROM dump",
    ],
    "dropped and created again": ["DROP TABLE orders", ORDERS, "INSERT INTO orders VALUES (1, 'one', 1)"],
}  # fmt: skip


def test_a_parent_that_has_only_an_excluded_column_is_noticed(orders: Store, lake: Lake):
    publish_changes(orders, lake, without=["orders.price"])
    run(orders, *UNTRACKED_CHANGES["inherited temporarily"])
    publish_changes(orders, lake, verify=True)
    assert asked(lake, "SELECT count(*) AS n FROM orders") == [{"n": 999}]


@pytest.mark.parametrize("what", UNTRACKED_CHANGES)
def test_a_table_with_untracked_changes_is_copied_completely(orders: Store, lake: Lake, what: str):
    run(orders, *UNTRACKED_CHANGES[what])
    with pytest.raises(
        NotReady, match=r"cannot determine the changes of .*; run `ridelake snapshot --verify`"
    ):
        verify_now(orders, lake)
    assert kind_of(publish_changes(orders, lake, verify=True)) == "whole"
    if "inherits" not in what:
        run(orders, "DELETE FROM orders WHERE id = 1")
    assert publish_changes(orders, lake, verify=True).epoch.verified


def test_verify_compares_the_tracked_tables_of_a_lake_with_others(orders: Store, lake: Lake):
    run(orders, "CREATE TABLE loose (id int)", "INSERT INTO loose VALUES (1)")
    publish_changes(orders, lake, tables=["loose"])
    run(orders, "INSERT INTO loose VALUES (2)", "DELETE FROM orders WHERE id = 1")
    compared = verify_now(orders, lake)
    compared.prove()
    assert [one.table for one in compared.comparisons] == ["orders"]
    assert compared.not_compared == {"public.loose": "it is not tracked"}
    assert compared.as_dict()["not_compared"] == {"public.loose": "it is not tracked"}


def test_a_key_that_is_renamed_does_not_lose_deletes_in_a_new_lake(orders: Store, tmp_path: Path):
    run(orders, "ALTER TABLE orders RENAME id TO number")
    lake = Lake.create(LakeAddress.at(tmp_path / "new"))
    publish_changes(orders, lake, tables=["orders"])
    run(orders, "DELETE FROM orders WHERE number = 9")
    publish_changes(orders, lake, verify=True)
    track(orders, "orders")
    publish_changes(orders, lake)
    run(orders, "DELETE FROM orders WHERE number = 10")
    assert publish_changes(orders, lake, verify=True).epoch.deleted == 1


def test_a_key_changed_by_a_trigger_leaves_no_old_row(orders: Store, lake: Lake):
    run(
        orders,
        "CREATE FUNCTION negate() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.id := -OLD.id; RETURN NEW; END $$",
        "CREATE TRIGGER negate BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION negate()",
        "UPDATE orders SET what = 'renumbered' WHERE id = 7",
    )
    assert publish_changes(orders, lake, verify=True).epoch.rows == 1000


def test_untrack_works_after_parts_were_dropped(orders: Store, lake: Lake):
    run(orders, "CREATE VIEW built_on AS SELECT id, tx FROM orders")
    with pytest.raises(
        BadInput, match=r"other objects depend on its column tx \(view built_on .*drop them first"
    ):
        untrack(orders, "orders")
    run(
        orders, "DROP VIEW built_on", "DROP TRIGGER zzz_ridelake_stamp ON orders",
        "DROP TRIGGER ridelake_deleted ON orders", "DROP TRIGGER ridelake_rekeyed ON orders",
        "DROP TRIGGER ridelake_truncated ON orders",
        "ALTER TABLE orders DROP COLUMN tx", "ALTER TABLE orders DROP CONSTRAINT orders_pkey",
        "ALTER TABLE orders ADD COLUMN place point",
    )  # fmt: skip
    assert untrack(orders, "orders") == "public.orders"
    with pytest.raises(BadInput, match=r"public\.orders is not tracked"):
        untrack(orders, "orders")


def test_untrack_removes_what_a_dropped_schema_left(orders: Store):
    run(orders, "DROP SCHEMA ridelake_tracking CASCADE", "UPDATE orders SET id = -id", "DELETE FROM orders")
    assert untrack(orders, "orders") == "public.orders"
    assert rows_of(orders, "SELECT * FROM (VALUES (1, '', 1.0)) AS v UNION ALL SELECT * FROM orders") != []
    with pytest.raises(BadInput, match=r"public\.orders is not tracked"):
        untrack(orders, "orders")


def test_a_dropped_table_is_reported_and_the_lake_can_still_be_queried(orders: Store, lake: Lake):
    run(orders, "ALTER TABLE orders RENAME TO invoices")
    with pytest.raises(BadInput, match="no table of the lake is in this database: check --dsn"):
        publish_changes(orders, lake)
    assert asked(lake, "SELECT count(*) AS n FROM orders") == [{"n": 1000}]


def test_a_second_table_joins_a_lake(orders: Store, lake: Lake):
    run(orders, "CREATE TABLE people (name text PRIMARY KEY)", "INSERT INTO people VALUES ('Zoë')")
    run(orders, "DELETE FROM orders WHERE id = 1")
    taken = publish_changes(orders, lake, tables=["people"])
    assert {n: (t.changed, t.deleted) for n, t in taken.epoch.tables.items()} == {
        "orders": (0, 1),
        "people": (1, 0),
    }
    assert set(publish_changes(orders, lake, verify=True).epoch.tables) == {"orders", "people"}
    assert set(publish_snapshot(orders, lake).tables) == {"orders", "people"}


@pytest.mark.slow
def test_a_lake_can_have_the_store_and_own_tables(seeded_store: Store, lake: Lake):
    run(seeded_store, "CREATE SCHEMA mine", "CREATE TABLE mine.rides (id int PRIMARY KEY)",
        "CREATE TABLE mine.notes (ride_id bigint PRIMARY KEY, note text)",
        "INSERT INTO mine.notes SELECT ride_id, 'fine' FROM rides LIMIT 10")  # fmt: skip
    publish_changes(seeded_store, lake)
    taken = publish_changes(seeded_store, lake, tables=["mine.rides", "mine.notes"], verify=True)
    assert {"rides", "mine.rides", "notes"} <= set(taken.epoch.tables)
    query = "SELECT count(*) AS n FROM notes JOIN rides ON rides.ride_id = notes.ride_id"
    settings = Settings(home=Path("unused"), lake=lake.address, dsn=seeded_store.conninfo)
    for name in ("duckdb", "polars", "postgres"):
        with open_engine(name, settings, newest_epoch(lake.address)) as engine:
            assert engine.sql(query).to_pylist() == [{"n": 10}]
            assert engine.sql("SELECT count(*) AS n FROM RideTable").num_rows == 1


def test_a_table_named_rides_outside_of_the_store_is_an_ordinary_table(bare: Store, lake: Lake):
    run(bare, "CREATE TABLE rides (id int PRIMARY KEY)", "INSERT INTO rides VALUES (1)",
        "CREATE SCHEMA ridelake", "CREATE TABLE ridelake.riders (id int PRIMARY KEY)")  # fmt: skip
    publish_changes(bare, lake, tables=["public.rides", "ridelake.riders"], verify=True)
    for engine in ("duckdb", "polars"):
        assert asked(lake, "SELECT id FROM rides", engine) == [{"id": 1}]


def write_at_random(store: Store, seed: int, stop: threading.Event) -> None:
    """Execute random inserts, updates, deletes, key changes, savepoints, rollbacks and a few TRUNCATEs."""
    choose = random.Random(seed)
    with store.connect() as connection:
        while not stop.is_set():
            a, b = choose.randrange(400), choose.randrange(400)
            statement = choose.choices(
                [
                    f"INSERT INTO orders SELECT n, 'new', n FROM generate_series({a}, {a + 20}) AS n"
                    " ON CONFLICT (id) DO UPDATE SET what = orders.what || '!'",
                    f"UPDATE orders SET what = 'changed {b}' WHERE id BETWEEN {a} AND {a + 10}",
                    f"DELETE FROM orders WHERE id BETWEEN {a} AND {a + 15}",
                    f"UPDATE orders SET id = id + {b} WHERE id = {a}",
                    f"BEGIN; SAVEPOINT s; DELETE FROM orders WHERE id = {a}; ROLLBACK TO s;"
                    f" SAVEPOINT t; UPDATE orders SET price = {b} WHERE id = {b}; COMMIT",
                    f"BEGIN; DELETE FROM orders WHERE id > {a}; ROLLBACK",
                    "TRUNCATE orders",
                ],
                weights=[30, 30, 20, 20, 10, 5, 1],
            )[0]
            try:
                connection.execute(statement.encode())
            except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
                connection.rollback()


@pytest.mark.slow
def test_every_epoch_of_a_tracked_table_is_equal_under_writers(orders: Store, lake: Lake):
    stop = threading.Event()
    writers = [threading.Thread(target=write_at_random, args=(orders, seed, stop)) for seed in range(4)]
    for writer in writers:
        writer.start()
    try:
        taken = [publish_changes(orders, lake, verify=True) for _ in range(25)]
        verify_now(orders, lake).prove()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert all(one.epoch.verified for one in taken)
    assert sum(one.epoch.deleted for one in taken) > 0
    publish_changes(orders, lake, verify=True)


@pytest.mark.slow
def test_tracking_while_others_write_loses_nothing(bare: Store, lake: Lake):
    run(bare, ORDERS)
    stop = threading.Event()
    writers = [threading.Thread(target=write_at_random, args=(bare, seed, stop)) for seed in range(3)]
    for writer in writers:
        writer.start()
    try:
        publish_changes(bare, lake, tables=["orders"], verify=True)
        for _ in range(3):
            track(bare, "orders")
            for _ in range(3):
                assert publish_changes(bare, lake, verify=True).epoch.verified
            untrack(bare, "orders")
            assert publish_changes(bare, lake, verify=True).epoch.verified
    finally:
        stop.set()
        for writer in writers:
            writer.join()


@pytest.mark.parametrize("end", [(), ("ALTER TABLE orders NO INHERIT parent",)])
def test_rows_that_were_deleted_by_a_parent_table_are_not_in_the_next_epoch(
    orders: Store, lake: Lake, end: tuple[str, ...]
):
    """The trigger that records deleted rows does not fire for a DELETE on the parent."""
    run(
        orders, "CREATE TABLE parent (LIKE orders)", "ALTER TABLE orders INHERIT parent",
        "DELETE FROM parent WHERE id < 5", *end,
    )  # fmt: skip
    assert kind_of(publish_changes(orders, lake, verify=True)) == "whole"
    run(orders, "DELETE FROM parent WHERE id < 7", "DELETE FROM orders WHERE id < 9")
    taken = publish_changes(orders, lake, verify=True)
    assert kind_of(taken) == ("changes" if end else "whole")
    assert taken.epoch.rows == 992
