"""The output of `status`, also for a role without access to the ride store."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from terminal import ridelake

from lakehouse.capture.publish import publish_snapshot
from lakehouse.capture.status import read_status
from lakehouse.capture.sync import sync_once
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from oltp.store import Store, open_database
from ridelake.errors import UsageError, grant_hint
from ridelake.settings import LakeAddress, Settings

CREATE_SHOP = """
    CREATE SCHEMA shop;
    CREATE TABLE shop.orders (id int PRIMARY KEY, cents int);
    INSERT INTO shop.orders SELECT i, i FROM generate_series(1, 7) AS i"""


@pytest.fixture
def shop(seeded_store: Store, tmp_path: Path) -> Settings:
    """A database with a ride store and a user table."""
    with seeded_store.connect() as connection:
        connection.execute(CREATE_SHOP.encode())
    return Settings(tmp_path, LakeAddress.at(tmp_path / "lake"), seeded_store.conninfo)


@pytest.fixture
def clerk(shop: Settings, seeded_store: Store) -> Iterator[Settings]:
    """The same database, for a role that owns the table and has no access to the ride store."""
    with seeded_store.connect() as admin:
        role = Identifier(f"clerk_of_{admin.info.dbname}")
        admin.execute(SQL("CREATE ROLE {} LOGIN").format(role))
        for command in ("GRANT USAGE ON SCHEMA shop TO {}", "ALTER TABLE shop.orders OWNER TO {}"):
            admin.execute(SQL(command).format(role))
        try:
            user = f"clerk_of_{admin.info.dbname}"
            yield replace(shop, dsn=make_conninfo(str(shop.dsn), user=user))
        finally:
            admin.execute(SQL("DROP OWNED BY {}").format(role))
            admin.execute(SQL("DROP ROLE {}").format(role))


def test_status_shows_the_lag_and_the_next_command(shop: Settings, seeded_store: Store):
    first = read_status(shop)
    assert (first["ride_store"], first["newest_epoch"]) == ("installed", None)
    assert first["next"] == "run `ridelake snapshot`"
    lake = Lake.create(shop.lake)
    publish_snapshot(seeded_store, lake, tables=["shop.orders"])
    with seeded_store.connect() as connection:
        for number in range(5):
            connection.execute("INSERT INTO shop.orders VALUES (%s, 1)", (100 + number,))
    behind = read_status(shop)
    assert behind["transactions_behind"] >= 5
    assert behind["seconds_behind"] > 0
    assert behind["tables"] == [{"table": "shop.orders", "rows": 7, "tracked": False}]
    assert behind["next"].startswith("run `ridelake sync --once`; `ridelake track shop.orders`")
    track(seeded_store, "shop.orders")
    sync_once(seeded_store, lake)
    after = read_status(shop)
    assert after["tables"] == [{"table": "shop.orders", "rows": 12, "tracked": True}]


def test_status_reports_a_lake_of_another_database(shop: Settings, store: Store, seeded_store: Store):
    publish_snapshot(seeded_store, Lake.create(shop.lake), tables=["shop.orders"])
    report = read_status(replace(shop, dsn=store.conninfo))
    assert report["transactions_behind"] is None
    assert report["tables"][0]["tracked"] is None
    assert "another server or database" in report["next"]


def test_a_role_without_the_ride_store_gets_the_rest_of_the_status(clerk: Settings):
    report = read_status(clerk)
    assert report["ride_store"].startswith("no access to the ride store for role")
    assert "GRANT USAGE ON SCHEMA ridelake" in report["ride_store"]
    assert report["postgres"]
    assert report["next"] == "run `ridelake snapshot --table SCHEMA.NAME` for a table of your own"


def test_a_role_without_the_ride_store_syncs_its_own_table(clerk: Settings):
    store = open_database(str(clerk.dsn), install=False)
    lake = Lake.create(clerk.lake)
    assert sync_once(store, lake, tables=["shop.orders"]).is_new
    assert sync_once(store, lake, verify=True).epoch is not None
    assert read_status(clerk)["tables"] == [{"table": "shop.orders", "rows": 7, "tracked": False}]


@pytest.mark.parametrize(
    "arguments", [["audit"], ["snapshot"], ["simulate"], ["seed"], ["untrack", "shop.orders"]]
)
def test_a_missing_privilege_is_one_line_with_the_grant(clerk: Settings, arguments: list[str]):
    done = ridelake(*arguments, "--dsn", str(clerk.dsn), folder=clerk.home)
    assert done.returncode == UsageError.exit_code
    assert done.stderr.count("\n") == 1
    assert "internal error" not in done.stderr
    assert "permission denied" in done.stderr or "no access to the ride store for role" in done.stderr
    assert "GRANT" in done.stderr or "connect as a role that owns" in done.stderr


def test_the_error_names_the_grant():
    assert "GRANT USAGE ON SCHEMA ridelake TO" in grant_hint("permission denied for schema ridelake")
    assert "GRANT CREATE ON DATABASE shop TO" in grant_hint("permission denied for database shop")
    assert "GRANT SELECT ON TABLE orders TO" in grant_hint("permission denied for table orders")
    assert "connect as the role that owns it" in grant_hint("must be owner of table orders")
