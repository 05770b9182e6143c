"""A Postgres table as a source of the lake."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from psycopg import Connection
from psycopg.sql import SQL, Identifier

from lakehouse.source.copy import fetch
from lakehouse.source.tables import TableSource, read_sources, select_list
from lakehouse.table.columns import SourceColumn, arrow_schema, read_columns
from lakehouse.table.layout import TableLayout, write_run
from lakehouse.table.storage import Storage
from ridelake.settings import LakeAddress


def source_of(connection: Connection, table: str) -> TableSource:
    """The source of a table with a primary key. `table`: its SQL name."""
    (source,) = read_sources(connection, [table])
    return source


def columns_of(connection: Connection, table: str) -> list[SourceColumn]:
    """The columns of a relation, with or without a key. `table`: its name without the schema."""
    row = connection.execute("SELECT to_regclass(quote_ident(%s))::oid::bigint", (table,)).fetchone()
    assert row is not None
    return read_columns(connection, [row[0]])[row[0]]


def rows_of(connection: Connection, table: str) -> pa.Table:
    """All rows, unordered, as the lake reads them."""
    columns = columns_of(connection, table)
    return fetch(
        connection, SQL("SELECT {} FROM {}").format(select_list(columns), Identifier(table)), columns
    )


def exported(connection: Connection, table: str, folder: Path) -> Path:
    """Write all rows to a file, as an epoch does."""
    columns = columns_of(connection, table)
    storage = Storage.of(LakeAddress.at(folder))
    stem = str(folder / table.encode().hex())
    rows = rows_of(connection, table)
    file = write_run(storage, stem, columns, arrow_schema(columns), [], [rows], sealed=True)
    return Path(file.location)


def heap_source(connection: Connection, name: str, order_by: Sequence[str]) -> TableSource:
    """A source for reading only; the relation may be a view or have no key."""
    columns = columns_of(connection, name)
    return TableSource(
        "ridelake", name, f"ridelake.{name}", 0, tuple(columns), (), None, "", TableLayout(tuple(order_by))
    )
