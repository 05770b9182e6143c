"""The tables of the catalog, beside those of Iceberg's SQL catalog."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pyiceberg.catalog.sql import SqlCatalogBaseTable
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
)

from lakehouse.table.epoch import Selection
from lakehouse.table.published import FORMAT, check_format

METADATA = MetaData()
LAKE = Table("lake", METADATA, Column("format", Integer, primary_key=True, autoincrement=False))
EPOCHS = Table(
    "epochs",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("published_at", String, nullable=False),
    Column("token", String, nullable=False),  # JSON, and so are the tables
    Column("tables", String, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("verified", Boolean),
)
# The selection of the tables of each store, as JSON; at most one row for each.
SELECTION = Table("lake_selection", METADATA, Column("selection", String, primary_key=True))


def create_tables(engine: Engine) -> None:
    """Create the missing tables, including Iceberg's. In one transaction, so that another process that finds
    the table `lake` also finds its row. Raises UsageError for a lake of another format."""
    with engine.begin() as connection:
        SqlCatalogBaseTable.metadata.create_all(connection)
        METADATA.create_all(connection)
        found = connection.execute(LAKE.select()).fetchall()
        check_format([tuple(row) for row in found])
        if not found:
            connection.execute(insert(LAKE).values(format=FORMAT))


def read_selection(connection: Connection, store: str) -> Selection | None:
    for _, stored in _selections(connection, store):
        lists = {name: tuple(stored[name]) for name in ("schemas", "exclude", "tables", "without")}
        return Selection(stored["all_tables"], **lists)
    return None


def write_selection(connection: Connection, store: str, selection: Selection) -> None:
    """Replace the selection of the store, in the transaction of `connection`."""
    for text, _ in _selections(connection, store):
        connection.execute(delete(SELECTION).where(SELECTION.c.selection == text))
    document = asdict(selection) | ({"store": store} if store else {})
    connection.execute(insert(SELECTION).values(selection=json.dumps(document)))


def _selections(connection: Connection, store: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The row of the store, if there is one, as text and parsed."""
    for (text,) in connection.execute(select(SELECTION.c.selection)).fetchall():
        stored = json.loads(text)
        if stored.get("store", "") == store:
            yield text, stored
