"""Values by type: from Postgres to the files of a mover and back to Postgres, which compares the texts.

A mover copies all tables of `type_values.sql` in one run. If that fails, it copies each incomplete table in a
run of its own, so that a type that it refuses does not hide the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from psycopg import Connection
from psycopg.rows import TupleRow

from bench.movers.copied import QUERIES, drifted, file_texts, open_copy
from bench.movers.mover import Mover, move
from oltp.scratch import scratch_on_server
from oltp.store import Store
from ridelake.errors import RidelakeError
from ridelake.queries import load_script

Texts = Mapping[int, str | None]


@dataclass(frozen=True, slots=True)
class TypeTable:
    """A table of one type. `texts`: id → value as Postgres writes it."""

    name: str
    type: str
    texts: Texts

    @property
    def qualified(self) -> str:
        return f"mover_types.{self.name}"


@dataclass(slots=True)
class MoverTypes:
    """The results of a mover by table. `truth`: the values as Postgres writes them. `changed`: values that
    differ, without an error of the mover. `refused`: why there is no copy."""

    mover: Mover
    truth: Mapping[str, Texts]
    right: list[str] = field(default_factory=list)
    changed: dict[str, dict[int, str | None]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def measure_types(server: str, pythons: Mapping[Mover, str], folder: Path) -> list[MoverTypes]:
    """Measure in a new database on the server of the connection string `server`. `folder` must be empty."""
    with scratch_on_server(server) as scratch:
        store = Store(scratch.dsn, scratch.small.server_version)
        with store.connect() as connection:
            tables = create_tables(connection)
            return [
                _measure(connection, store, tables, mover, python, folder)
                for mover, python in pythons.items()
            ]


def create_tables(connection: Connection[TupleRow]) -> list[TypeTable]:
    connection.execute(load_script("bench.movers", "type_values.sql"))
    found = connection.execute(QUERIES["values"]).fetchall()
    return [
        TypeTable(name, type_, {int(id_): text for id_, text in texts.items()})
        for name, type_, texts in found
    ]


def _measure(
    connection: Connection[TupleRow],
    store: Store,
    tables: list[TypeTable],
    mover: Mover,
    python: str,
    folder: Path,
) -> MoverTypes:
    found = MoverTypes(mover, {table.name: table.texts for table in tables})
    together = folder / mover.tool
    run = move(mover, python, store.conninfo, together, [one.qualified for one in tables], own_tables=True)
    for table in tables:
        copy = copied_texts(mover, together, table)
        if run.error is not None and (isinstance(copy, str) or len(copy) < len(table.texts)):
            alone = folder / f"{mover.tool}-{table.name}"
            again = move(mover, python, store.conninfo, alone, [table.qualified], own_tables=True)
            copy = again.error or copied_texts(mover, alone, table)
        if isinstance(copy, str):
            found.refused[table.name] = copy
        elif changed := drifted(connection, table.type, table.texts, copy):
            found.changed[table.name] = changed
        else:
            found.right.append(table.name)
    return found


def copied_texts(mover: Mover, target: Path, table: TypeTable) -> Texts | str:
    """The values in the files; or why there are none. Values that no reader can read are None."""
    try:
        with open_copy(mover, target, [table.qualified]) as connection:
            if not connection.execute(QUERIES["has_view"], {"name": table.name}).fetchall():
                return "no file"
            try:
                return file_texts(connection, table.name)
            except duckdb.Error as error:
                return dict.fromkeys(table.texts, f"unreadable: {str(error).splitlines()[0]}")
    except (duckdb.Error, RidelakeError) as error:  # no epoch, or an incomplete file
        return str(error).splitlines()[0]
