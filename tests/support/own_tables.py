"""A user database without the ride store, with or without a table, and queries of its lake."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_database import bare_database, run

from lakehouse.capture.publish import PublishResult, publish_changes
from lakehouse.engines import open_engine
from lakehouse.source.tracking import track
from lakehouse.table.catalog import Lake
from lakehouse.table.published import newest_epoch
from oltp.cluster.server import Cluster
from oltp.store import Store
from ridelake.settings import Settings

ORDERS = "CREATE TABLE public.orders (id bigint PRIMARY KEY, what text, price numeric(10, 2))"


@pytest.fixture
def bare(cluster: Cluster) -> Iterator[Store]:
    with bare_database(cluster) as store:
        yield store


@pytest.fixture
def orders(bare: Store, lake: Lake) -> Store:
    """The tracked table `orders` with 1,000 rows, which are in epoch 1."""
    run(bare, ORDERS, "INSERT INTO orders SELECT n, 'thing ' || n, n FROM generate_series(1, 1000) AS n")
    track(bare, "orders")
    publish_changes(bare, lake, tables=["orders"])
    return bare


def asked(lake: Lake, query: str, engine: str = "duckdb") -> list[dict]:
    settings = Settings(home=Path("unused"), lake=lake.address)
    with open_engine(engine, settings, newest_epoch(lake.address)) as opened:
        return opened.sql(query).to_pylist()


def kind_of(taken: PublishResult) -> str:
    """`whole` if the epoch read all rows of `orders`, otherwise `changes`."""
    table = taken.epoch.tables["orders"]
    return "whole" if table.changed == table.rows else "changes"
