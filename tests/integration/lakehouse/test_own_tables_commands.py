"""Commands with the database of a user."""

import json
import shlex
from pathlib import Path

import pytest
from bare_database import rows_of, run
from own_tables import ORDERS
from psycopg.conninfo import make_conninfo
from terminal import answer, refusal, ridelake

from lakehouse.capture.publish import estimate_rows, publish_changes
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from oltp.store import Store, transaction
from ridelake.errors import BadInput


@pytest.mark.slow
def test_a_lake_of_own_tables_needs_no_ride_store(bare: Store, tmp_path: Path):
    run(bare, ORDERS, "INSERT INTO orders SELECT n, 'thing ' || n, n * 1.5 FROM generate_series(1, 100) AS n")
    flags = ["--dsn", bare.conninfo, "--lake", tmp_path / "lake"]
    assert answer("sync", "--once", "--table", "orders", *flags).startswith("epoch 1: 100 rows changed")
    run(bare, "DELETE FROM orders WHERE id = 7")
    assert "99 rows in 1 files" in answer("sync", "--once", *flags)
    query = "SELECT count(*) AS orders, sum(price) AS money FROM orders"
    expected = "orders,money\n99,7564.50\n"
    assert answer("sql", query, "--engine", "all", *flags) == expected
    run(bare, "DELETE FROM orders WHERE id > 90")
    assert answer("sql", "--fresh", "SELECT count(*) AS n FROM orders", *flags) == "n\n89\n"
    assert json.loads(answer("snapshot", "--verify", "--json", *flags))["verified"] is True
    assert [one["epoch"] for one in json.loads(answer("epochs", "--json", *flags))] == [3, 2, 1]
    assert json.loads(answer("status", "--json", *flags))["epoch_rows"] == 89
    assert "and 0 tombstones" in answer("maintain", *flags)
    assert "is not tracked; run `ridelake snapshot --verify`" in refusal("verify", *flags)
    assert "public.orders is tracked" in answer("track", "orders", *flags)
    answer("sync", "--once", *flags)
    assert "equals Postgres: 89 rows" in answer("verify", *flags)
    assert "public.orders is no longer tracked" in answer("untrack", "orders", *flags)
    assert "public.orders is not tracked" in refusal("untrack", "orders", *flags)
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname = 'ridelake'"
    assert rows_of(bare, schemas) == []


@pytest.mark.slow
def test_all_tables_are_tracked_and_followed_by_two_commands(bare: Store, tmp_path: Path):
    run(
        bare, ORDERS, "CREATE SCHEMA shop", "CREATE TABLE shop.items (id int PRIMARY KEY)",
        "CREATE TABLE shop.loose (id int)", "CREATE TABLE log_1 (id int)",
    )  # fmt: skip
    flags = ["--dsn", bare.conninfo, "--lake", tmp_path / "lake"]
    assert "--exclude needs --all-tables" in refusal("sync", "--once", "--exclude", "x", *flags)
    assert "name one table, or pass --all-tables" in refusal("track", *flags)
    tracked = ridelake("track", "--all-tables", "--exclude", "log_*", *flags)
    assert tracked.stdout == "public.orders is tracked\nshop.items is tracked\n"
    assert "shop.loose has no primary key" in tracked.stderr
    assert "is tracked" not in answer("track", "--all-tables", *flags)
    synced = ridelake("sync", "--once", "--all-tables", "--exclude", "log_*", *flags)
    assert synced.stderr.count("is copied completely in each epoch") == 1
    run(bare, "DROP TABLE shop.items", "CREATE TABLE more (id int PRIMARY KEY)")
    synced = ridelake("sync", "--once", *flags)
    assert "shop.items leaves the lake: it was dropped" in synced.stderr
    assert "public.more joins the lake" in synced.stderr
    report = json.loads(answer("status", "--json", *flags))
    assert {one["table"] for one in report["tables"]} == {"public.orders", "shop.loose", "public.more"}
    assert "`ridelake track public.more`" in report["next"]


@pytest.mark.slow
def test_read_only_commands_create_nothing_in_a_database(bare: Store, tmp_path: Path):
    flags = ["--dsn", bare.conninfo, "--lake", tmp_path / "lake"]
    assert "no epoch yet" in refusal("verify", *flags)
    assert "no epoch yet" in refusal("maintain", *flags)
    assert "there is no ride store in this database: run `ridelake seed`, or pass tables" in refusal(
        "sync", "--once", *flags
    )
    answer("status", *flags)
    assert "there is no table nothing" in refusal("track", "nothing", *flags)
    assert "there is no table nothing" in refusal("untrack", "nothing", *flags)
    assert rows_of(bare, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ridelake%'") == []


NOT_IN_A_LAKE = {
    "nothing": "there is no table nothing",
    "nowhere.nothing": "there is no table nowhere.nothing",
    "a.b.c.d": "not a table name|there is no table",
    '"open': "not a table name|there is no table",
    "": "not a table name|there is no table",
    "x; DROP TABLE orders": "not a table name|there is no table",
    "orders_pkey": "is not a table",
    "empty": "has no columns",
}


def test_a_table_that_cannot_be_in_a_lake_is_named(bare: Store, lake: Lake):
    run(
        bare,
        ORDERS,
        "CREATE TABLE empty ()",
    )
    for name, message in NOT_IN_A_LAKE.items():
        with pytest.raises(BadInput, match=message):
            publish_changes(bare, lake, tables=[name])
        message = message.replace("has no columns", "has no primary key")
        with pytest.raises(BadInput, match=message):
            estimate_rows(bare, [name])
            track(bare, name)
    assert not list(lake.address.folder.glob("*/data/*"))
    assert rows_of(bare, "SELECT FROM orders") == []


def test_names_that_differ_only_in_case_are_refused(bare: Store, lake: Lake):
    run(
        bare, ORDERS, "CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int PRIMARY KEY)",
        'CREATE TABLE "Orders" (id int PRIMARY KEY)', 'CREATE TABLE odd (id int PRIMARY KEY, "ID" int)',
    )  # fmt: skip
    publish_changes(bare, lake, tables=["orders", "public.orders"])
    with pytest.raises(BadInput, match=r"would both be named .* in the lake: publish one of them to another"):
        publish_changes(bare, lake, tables=['"Orders"'])
    with pytest.raises(BadInput, match="two columns id that differ only in case"):
        publish_changes(bare, lake, tables=["odd"])


@pytest.mark.slow
def test_a_missing_privilege_is_reported_in_one_sentence(bare: Store, lake: Lake, tmp_path: Path):
    run(bare, ORDERS, "CREATE SCHEMA hidden", "CREATE TABLE hidden.things (id int PRIMARY KEY)")
    role = f"reader_{bare.conninfo.split('bare_')[1].split()[0]}"
    run(bare, f"CREATE ROLE {role} LOGIN")
    try:
        flags = ["--dsn", make_conninfo(bare.conninfo, user=role), "--lake", tmp_path / "other"]
        assert "permission denied for table orders: connect as the owner of the table, or grant" in refusal(
            "sync", "--once", "--table", "orders", *flags
        )
        assert "permission denied for schema hidden: connect as" in refusal(
            "snapshot", "--table", "hidden.things", *flags
        )
        run(bare, f"GRANT SELECT ON orders TO {role}")
        assert answer("sync", "--once", "--table", "orders", *flags).startswith("epoch 1")
        assert "connect as a role that owns orders" in refusal("track", "orders", *flags)
        track(bare, "orders")
        whole = ridelake("sync", "--once", *flags)
        assert whole.stdout.startswith("epoch 2")
        assert "GRANT USAGE ON SCHEMA ridelake_tracking" in whole.stderr
        assert "connect as a role that owns orders" in refusal("untrack", "orders", *flags)
    finally:
        run(bare, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize("command", ["track", "untrack"])
def test_commands_do_not_wait_for_a_locked_table(bare: Store, command: str):
    """Other statements on the table would wait behind the lock request."""
    run(bare, ORDERS, "INSERT INTO orders VALUES (1, 'thing', 1)")
    if command == "untrack":
        track(bare, "orders")
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0"
    before = rows_of(bare, columns)
    with bare.connect() as user, transaction(user):
        user.execute("UPDATE orders SET price = 0")
        message = refusal(command, "orders", "--dsn", bare.conninfo)
    assert (
        "cannot lock orders, because a transaction has used it for more than 2 s: run the command" in message
    )
    assert rows_of(bare, columns) == before
    answer(command, "orders", "--dsn", bare.conninfo)
    assert rows_of(bare, columns) != before


def test_a_printed_command_can_be_pasted_into_a_shell(bare: Store, tmp_path: Path):
    run(bare, 'CREATE TABLE "Big Orders" (id int PRIMARY KEY)')
    flags = ["--dsn", bare.conninfo, "--lake", tmp_path / "lake"]
    said = answer("track", '"Big Orders"', *flags)
    sync = shlex.split(said.split("`")[1])
    assert answer(*sync[1:], "--once", *flags).startswith("epoch 1: 0 rows changed")
    answer("untrack", '"Big Orders"', *flags)
    answer("sync", "--once", *flags)
    track_again = shlex.split(json.loads(answer("status", "--json", *flags))["next"].split("`")[-2])
    assert "is tracked" in answer(*track_again[1:], *flags)
