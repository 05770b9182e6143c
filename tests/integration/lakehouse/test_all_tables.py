"""All tables of a database are followed: they join and leave."""

import pytest
from bare_database import run
from own_tables import ORDERS, asked
from rows_read import assert_equal

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.capture.sync import sync_repeatedly
from lakehouse.engines import has_ride_table
from lakehouse.source.tables import UNTRACKABLE
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Selection
from lakehouse.table.published import newest_epoch
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.errors import BadInput

EVERYTHING = Selection(all_tables=True)


def in_lake(lake: Lake) -> set[str]:
    return {table.source for table in newest_epoch(lake.address).tables.values()}


def test_all_tables_are_those_of_the_user(bare: Store, lake: Lake):
    run(
        bare, ORDERS, "CREATE SCHEMA shop", "CREATE TABLE shop.items (id int)",
        'CREATE TABLE shop."Odd.Name" (a int)',
        "CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10)",
        "CREATE VIEW seen AS SELECT * FROM orders", "CREATE MATERIALIZED VIEW kept AS SELECT 1 AS n",
        "CREATE TABLE iceberg_tables (id int)", "CREATE TABLE epochs (id int)",
    )  # fmt: skip
    track(bare, "orders")
    notes: list[str] = []
    publish_changes(bare, lake, selection=EVERYTHING, verify=True, on_note=notes.append)
    assert in_lake(lake) == {"public.orders", "shop.items", 'shop."Odd.Name"', "public.parted"}
    assert (
        "shop.items is copied completely in each epoch: it has no primary key, and no unique index"
        in "".join(notes)
    )


def test_a_table_joins_when_it_is_created_and_leaves_when_it_is_dropped(bare: Store, lake: Lake):
    run(
        bare,
        ORDERS,
        "CREATE TABLE brief (id int PRIMARY KEY)",
        "CREATE TABLE first_name (id int PRIMARY KEY)",
    )
    track(bare, "orders")
    publish_changes(bare, lake, selection=EVERYTHING)
    notes: list[str] = []
    run(
        bare, "DROP TABLE brief", "ALTER TABLE first_name RENAME TO second_name",
        "CREATE TABLE later AS SELECT 7 AS n", "INSERT INTO orders VALUES (1, 'thing', 1)",
    )  # fmt: skip
    epoch = publish_changes(bare, lake, verify=True, on_note=notes.append).epoch
    assert in_lake(lake) == {"public.orders", "public.second_name", "public.later"}
    assert epoch.tables["orders"].changed == 1
    assert notes[:4] == [
        "public.brief leaves the lake: it was dropped",
        "public.first_name leaves the lake: it was renamed to public.second_name",
        "public.later joins the lake",
        f"public.later is copied completely in each epoch: {UNTRACKABLE['no key']}",
    ]
    run(bare, "CREATE TABLE brief (id int PRIMARY KEY, again text)", "INSERT INTO brief VALUES (1, 'x')")
    publish_changes(bare, lake, verify=True)
    assert asked(lake, "SELECT * FROM brief") == [{"id": 1, "again": "x"}]
    run(bare, "DROP TABLE brief")
    maintain(lake, bare, keep_epochs=1)
    assert "public.brief" in in_lake(lake)
    assert publish_changes(bare, lake).is_new
    assert "public.brief" not in in_lake(lake)


@pytest.mark.parametrize("how", ["ALTER SCHEMA sa RENAME TO sb", "ALTER TABLE sa.mv SET SCHEMA sb"])
def test_an_unchanged_table_has_its_new_schema_in_the_next_epoch(bare: Store, lake: Lake, how: str):
    run(bare, "CREATE SCHEMA sa", "CREATE TABLE sa.mv (id int PRIMARY KEY)", "INSERT INTO sa.mv VALUES (1)")
    track(bare, "sa.mv")
    files = publish_changes(bare, lake, selection=EVERYTHING).epoch.tables["mv"].files
    run(bare, *(["CREATE SCHEMA sb"] if "SET SCHEMA" in how else []), how)
    notes: list[str] = []
    published = publish_changes(bare, lake, verify=True, on_note=notes.append)
    assert published.is_new
    assert notes == ["sa.mv leaves the lake: it was renamed to sb.mv", "sb.mv joins the lake"]
    assert in_lake(lake) == {"sb.mv"}
    assert newest_epoch(lake.address).tables["mv"].files == files
    verify_now(bare, lake).prove()
    assert not publish_changes(bare, lake, on_note=notes.append).is_new
    run(bare, "INSERT INTO sb.mv VALUES (2)")
    verify_now(bare, lake).prove()
    assert publish_changes(bare, lake, verify=True).epoch.tables["mv"].changed == 1
    assert_equal(bare, lake, "mv")


def test_the_other_tables_are_followed_when_a_named_one_is_dropped(bare: Store, lake: Lake):
    run(bare, ORDERS, "CREATE TABLE brief (id int PRIMARY KEY)")
    track(bare, "orders")
    notes: list[str] = []
    ticks = sync_repeatedly(0, bare, lake, tables=["orders", "brief"], on_note=notes.append)
    assert next(ticks).is_new
    run(bare, "DROP TABLE brief", "INSERT INTO orders VALUES (1, 'thing', 1)")
    assert next(ticks).is_new
    assert in_lake(lake) == {"public.orders"}
    assert notes == ["public.brief leaves the lake: it was dropped"]
    run(bare, "CREATE TABLE brief (id int PRIMARY KEY)")
    assert next(ticks).is_new
    assert notes[1:] == ["public.brief joins the lake"]
    run(bare, "DROP TABLE orders, brief")
    with pytest.raises(BadInput, match="no table of the lake is in this database"):
        publish_changes(bare, lake)


def test_the_selection_is_replaced_and_stored(bare: Store, lake: Lake):
    run(
        bare, ORDERS, "CREATE SCHEMA shop", "CREATE TABLE shop.items (id int PRIMARY KEY)",
        "CREATE TABLE shop.log_1 (id int)", "CREATE TABLE log_2 (id int)",
    )  # fmt: skip
    with pytest.raises(BadInput, match="there is no schema shops in this database: did you mean shop"):
        publish_changes(bare, lake, selection=Selection(schemas=("shops",)))
    publish_changes(bare, lake, selection=Selection(schemas=("shop",), exclude=("log_*",)))
    assert in_lake(lake) == {"shop.items"}
    publish_changes(bare, lake, tables=["orders"])
    assert in_lake(lake) == {"shop.items", "public.orders"}
    publish_snapshot(bare, lake, selection=Selection(all_tables=True, exclude=("shop.*",)))
    assert in_lake(lake) == {"public.orders", "public.log_2"}
    run(bare, "CREATE TABLE shop.more (id int)", "CREATE TABLE more (id int)")
    publish_changes(bare, lake)
    assert in_lake(lake) == {"public.orders", "public.log_2", "public.more"}


def test_a_selected_table_that_cannot_be_read_is_left_out(bare: Store, lake: Lake):
    run(
        bare, ORDERS, 'CREATE TABLE "Orders" (id int PRIMARY KEY)', "CREATE TABLE nothing ()",
        'CREATE TABLE twice (id int, "ID" int)',
    )  # fmt: skip
    track(bare, "orders")
    epoch = publish_changes(bare, lake, selection=EVERYTHING).epoch
    assert in_lake(lake) == {"public.orders"}
    assert {table.source for table in epoch.left_out.values()} == {
        'public."Orders"',
        "public.nothing",
        "public.twice",
    }
    assert not publish_changes(bare, lake).is_new
    run(bare, "ALTER TABLE nothing ADD COLUMN id int")
    publish_changes(bare, lake)
    assert in_lake(lake) == {"public.orders", "public.nothing"}


@pytest.mark.parametrize("selection", [EVERYTHING, Selection(schemas=("sa", "sb", "SB"))])
def test_a_selected_table_whose_name_in_the_lake_is_taken_is_left_out(
    bare: Store, lake: Lake, selection: Selection
):
    run(bare, "CREATE SCHEMA sa", "CREATE SCHEMA sb", 'CREATE SCHEMA "SB"')
    run(bare, "CREATE TABLE sa.inv AS SELECT 1 AS n", "CREATE TABLE sb.inv AS SELECT 2 AS n")
    publish_changes(bare, lake, selection=selection)
    run(bare, 'CREATE TABLE sb."sa.inv" (n int)', 'CREATE TABLE "SB".inv (n int)')
    for _ in range(2):
        published = publish_changes(bare, lake, verify=True)
        assert in_lake(lake) == {"sa.inv", "sb.inv"}
        assert {one.source for one in published.epoch.left_out.values()} == {'sb."sa.inv"', '"SB".inv'}
    assert all("would both be named " in sentence for sentence in published.epoch.missing())
    run(bare, "DROP TABLE sa.inv", "DROP TABLE sb.inv")
    publish_changes(bare, lake, verify=True)
    assert in_lake(lake) == {'sb."sa.inv"', '"SB".inv'}
    run(bare, "CREATE TABLE sa.inv (n int)", 'CREATE TABLE "SB"."INV" (n int)')
    with pytest.raises(BadInput, match="would both be named"):
        publish_changes(bare, lake, tables=["sa.inv", '"SB"."INV"'])


def test_an_excluded_column_stays_excluded_if_its_table_joins_again(bare: Store, lake: Lake):
    make = "CREATE TABLE people (id int PRIMARY KEY, secret text)"
    run(bare, ORDERS, make, "INSERT INTO people VALUES (1, 'x')")
    publish_changes(bare, lake, selection=EVERYTHING, without=["people.secret"])
    run(bare, "DROP TABLE people")
    publish_changes(bare, lake)
    run(bare, make, "INSERT INTO people VALUES (2, 'y')")
    publish_changes(bare, lake)
    assert asked(lake, "SELECT * FROM people") == [{"id": 2}]


@pytest.mark.parametrize(
    ("rename", "name"),
    [
        ("ALTER SCHEMA sa RENAME TO sb", "sb.people"),
        ("ALTER TABLE sa.people SET SCHEMA public", "public.people"),
        ("ALTER TABLE sa.people RENAME TO men", "sa.men"),
    ],
)
@pytest.mark.parametrize("is_left_out", [False, True])
def test_an_excluded_column_stays_excluded_if_its_table_is_renamed(
    bare: Store, lake: Lake, rename: str, name: str, is_left_out: bool
):
    run(
        bare, ORDERS, "CREATE SCHEMA sa", 'CREATE TABLE sa.people (id int, "A secret" text, day date)',
        "INSERT INTO sa.people VALUES (1, 'x', '2026-01-01')",
    )  # fmt: skip
    publish_changes(bare, lake, selection=EVERYTHING, without=['sa.people."A secret"'])
    if is_left_out:
        run(bare, "UPDATE sa.people SET day = 'infinity'")
        assert publish_changes(bare, lake).epoch.left_out
    run(bare, rename, f"UPDATE {name} SET day = NULL")
    for _ in range(2):
        epoch = publish_changes(bare, lake, verify=True).epoch
        (table,) = set(epoch.tables) - {"orders"}
        assert epoch.tables[table].source == name
        assert asked(lake, f"SELECT * FROM {table}") == [{"id": 1, "day": None}]
        run(bare, "INSERT INTO orders SELECT count(*), 'thing', 1 FROM orders")


def test_an_excluded_column_stays_excluded_if_its_table_is_renamed_while_it_is_not_selected(
    bare: Store, lake: Lake
):
    run(bare, ORDERS, "CREATE SCHEMA sa", "CREATE TABLE sa.people AS SELECT 1 AS id, 'x' AS secret")
    publish_changes(
        bare, lake, tables=["orders"], selection=Selection(schemas=("sa",)), without=["sa.people.secret"]
    )
    run(bare, "ALTER SCHEMA sa RENAME TO sb")
    assert set(publish_changes(bare, lake).epoch.tables) == {"orders"}
    publish_changes(bare, lake, selection=EVERYTHING)
    assert asked(lake, "SELECT * FROM people") == [{"id": 1}]


@pytest.mark.slow
def test_the_tables_of_the_ride_store_keep_their_names(store: Store, lake: Lake):
    run(store, "CREATE TABLE public.rides (id int PRIMARY KEY)")
    try:
        epoch = publish_changes(store, lake, selection=EVERYTHING).epoch
    finally:
        run(store, "DROP TABLE public.rides")
    assert epoch.tables["rides"].source == "ridelake.rides"
    assert epoch.tables["public.rides"].source == "public.rides"
    assert has_ride_table(epoch)
    assert "ridelake.schema_version" not in epoch.sources
