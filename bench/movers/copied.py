"""Reads the files of any mover with DuckDB, and compares them with Postgres.

torn_rows   a full copy: rows that violate a condition of `torn.sql`
latest      an incremental copy: the newest version of each row
drifted     a copy of a table of types: values that are no longer those of Postgres
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
from psycopg import Connection
from psycopg.rows import TupleRow

from bench.movers.mover import Mover
from lakehouse.engines.duckdb import open_connection, open_views
from lakehouse.table.published import newest_epoch
from ridelake.queries import load_queries
from ridelake.settings import LakeAddress, Settings

QUERIES = load_queries("bench.movers")
TORN = load_queries("bench.movers", "torn.sql")


@contextmanager
def open_copy(mover: Mover, folder: Path, tables: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with a view for each of the tables that the mover has copied to `folder`."""
    if mover.tool == "ridelake":
        address = LakeAddress.at(folder / "lake")
        settings = Settings(folder / "home", address)
        with open_views(settings, newest_epoch(address)) as (connection, reading), reading():
            yield connection
        return
    with open_connection() as connection:
        for table in tables:
            name = table.split(".")[1]
            if found := files_of(folder, name):
                rows = connection.read_parquet(found, union_by_name=True, hive_partitioning=False)
                rows.create_view(name)
        yield connection


def files_of(folder: Path, name: str) -> list[str]:
    return sorted(str(file) for file in folder.glob(f"**/{name}/**/*.parquet"))


def bytes_written(folder: Path, tables: Sequence[str]) -> int:
    """The bytes of the Parquet files of the tables. Files that a tool keeps for itself are not counted: dlt
    has a copy of each file in its working folder."""
    files = [file for table in tables for file in files_of(folder, table.split(".")[1])]
    return sum(Path(file).stat().st_size for file in files)


def count_rows(connection: duckdb.DuckDBPyConnection, tables: Sequence[str]) -> int:
    """The rows of the tables in the copy. Raises duckdb.Error if a table is missing."""
    return sum(len(connection.view(table.split(".")[1])) for table in tables)


def torn_rows(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """The number of rows that violate each condition."""
    found = {}
    for name, query in TORN.items():
        if name == "entries":
            connection.execute(query)
        else:
            found[name] = len(connection.execute(query).fetchall())
    return found


def latest(connection: duckdb.DuckDBPyConnection, name: str) -> dict[int, str]:
    """id → payload of the newest version of each row, as a reader of appended files takes it."""
    newest = connection.view(name).aggregate("id, arg_max(payload, updated_now) AS payload", "id")
    return dict(newest.fetchall())


def file_texts(connection: duckdb.DuckDBPyConnection, name: str) -> dict[int, str | None]:
    """id → the value as a text that Postgres can read."""
    view = connection.view(name)
    kind = str(dict(zip(view.columns, view.types, strict=True))["v"])
    text = "v::varchar"
    if kind == "BLOB":
        text = r"'\x' || hex(v)"
    elif kind.endswith("[]"):
        text = "translate(v::varchar, '[]', '{}')"
    elif kind.startswith(("DATE", "TIMESTAMP")):
        text = "replace(v::varchar, ' (BC)', '') || CASE WHEN v::varchar LIKE '%(BC)%' THEN ' BC' ELSE '' END"
    return dict(view.project(f"id, {text}").fetchall())


def drifted(
    connection: Connection[TupleRow],
    type_: str,
    truth: Mapping[int, str | None],
    copy: Mapping[int, str | None],
) -> dict[int, str | None]:
    """The values of the copy that differ from Postgres, and the missing values. `truth`: the values as
    Postgres writes them."""
    found = {}
    for id_, value in truth.items():
        text = copy.get(id_)
        stored = None
        if text is not None:
            row = connection.execute(
                QUERIES["as_text"], {"text": text, "type": type_, "truth": value}
            ).fetchone()
            stored = row[0] if row and row[0] is not None else f"not a value: {text}"
        if id_ not in copy or stored != value:
            found[id_] = stored
    return found
