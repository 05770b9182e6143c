"""In every engine, tables have the names of Postgres; unambiguous names do not need a schema."""

from pathlib import Path

import pytest
from bare_database import bare_database, run

from lakehouse.capture.publish import publish_changes
from lakehouse.engines import ENGINES, open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from olap.query_epoch import relations, without_schemas
from oltp.cluster.server import Cluster
from ridelake.settings import LakeAddress, Settings

LONG = "x" * 63
TABLES = {
    "public.orders": "(1, 'public')",
    "shop.orders": "(2, 'shop')",
    '"Sales".orders': "(3, 'sales')",
    "shop.items": "(4, 'item')",
    "stock.items": "(5, 'stocked')",
    'shop."select"': "(6, 'reserved')",
    'shop."Mixed Case"': "(7, 'mixed')",
    'shop."zoë_é"': "(8, 'unicode')",
    f"shop.{LONG}": "(9, 'long')",
    '"Sales"."a.b"': "(10, 'dotted')",
}
QUERIES = {
    "SELECT what FROM orders": "public",
    "SELECT what FROM public.orders": "public",
    "SELECT what FROM shop.orders": "shop",
    'SELECT what FROM "Sales".orders': "sales",
    "SELECT what FROM SHOP.Orders WHERE orders.id = 2": "shop",
    "SELECT orders.what FROM shop.orders WHERE orders.id = 2": "shop",
    "SELECT shop.orders.what FROM shop.orders": "shop",
    "SELECT o.what FROM shop.orders AS o JOIN public.orders AS p ON p.id + 1 = o.id": "shop",
    "SELECT what FROM shop.items": "item",
    "SELECT what FROM stock . items": "stocked",
    'SELECT what FROM shop."select"': "reserved",
    'SELECT what FROM "select"': "reserved",
    'SELECT what FROM shop."Mixed Case"': "mixed",
    'SELECT what FROM shop."zoë_é"': "unicode",
    "SELECT what FROM shop.zoë_é": "unicode",
    f"SELECT what FROM shop.{LONG}": "long",
    'SELECT what FROM "Sales"."a.b"': "dotted",
    "SELECT 'shop.orders' AS what FROM shop.orders": "shop.orders",
}


@pytest.fixture(scope="module")
def settings(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory):
    lake = Lake.create(LakeAddress.at(tmp_path_factory.mktemp("lake")))
    with bare_database(cluster) as store:
        run(store, "CREATE SCHEMA shop", 'CREATE SCHEMA "Sales"', "CREATE SCHEMA stock")
        for table, row in TABLES.items():
            run(store, f"CREATE TABLE {table} (id int PRIMARY KEY, what text)")
            run(store, f"INSERT INTO {table} VALUES {row}, (0, 'deleted')")
            track(store, table)
        publish_changes(store, lake, tables=list(TABLES), verify=True)
        run(store, *(f"DELETE FROM {table} WHERE id = 0" for table in TABLES))
        publish_changes(store, lake, verify=True)
        yield Settings(home=Path("unused"), lake=lake.address, dsn=store.conninfo)


ENGINE_MARKS = [
    pytest.param(name, marks=[] if name in ("postgres", "duckdb", "polars") else pytest.mark.slow)
    for name, package in ENGINES.items()
    if package.here
]


@pytest.mark.parametrize("name", ENGINE_MARKS)
def test_tables_are_named_as_in_postgres(settings: Settings, name: str):
    epoch = newest_epoch(settings.lake)
    wrong = {}
    with open_engine(name, settings, epoch) as engine:
        for query, expected in QUERIES.items():
            text = query if name == "postgres" else without_schemas(query, epoch)
            found = engine.sql(text).column(0).to_pylist()
            if found != [expected]:
                wrong[query] = found
        known = relations(engine, epoch)
    assert not wrong
    assert set(known) == set(epoch.tables)
    assert {"orders", "shop.orders", "Sales.orders", "shop.items", "stock.items", "select"} <= set(known)


def test_a_name_without_a_schema_is_unknown_if_it_is_ambiguous(settings: Settings):
    assert "items" not in newest_epoch(settings.lake).tables
