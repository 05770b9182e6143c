"""The table to measure. The table itself is only read. Inserts go into a copy in the schema `ridelake_bench`,
which is dropped afterwards. A file is loaded into a private server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import psycopg
from psycopg.sql import Identifier

from bench.own.from_file import is_file_name, load_rows, read_rows
from lakehouse.catalog import Lake
from lakehouse.columns import Column, read_columns
from lakehouse.epoch import Epoch, TableState
from lakehouse.take import take_snapshot
from oltp.store import Store, open_store
from ridelake.errors import BadInput
from ridelake.settings import LakeAddress, Settings

LOADED = "public.loaded"


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """`name`: the name in the engines. `relation`: schema and table in Postgres. `key`: the column of a
    single-column primary key, or None. `generated`: generated columns, which cannot be inserted.
    `nondeterministic`: columns with a nondeterministic collation. `warnings`: sentences on omitted columns of
    a file."""

    settings: Settings
    store: Store
    epoch: Epoch
    name: str
    relation: tuple[str, ...]
    columns: tuple[Column, ...]
    partitioned: bool
    generated: frozenset[str]
    nondeterministic: frozenset[str]
    warnings: tuple[str, ...] = ()

    @property
    def state(self) -> TableState:
        return self.epoch.tables[self.name]

    @property
    def identifier(self) -> Identifier:
        return Identifier(*self.relation)

    @property
    def key(self) -> Column | None:
        keys = [column for column in self.columns if column.in_key]
        return keys[0] if len(keys) == 1 else None


@contextmanager
def subject_of(settings: Settings, name: str, folder: Path) -> Iterator[Subject]:
    """`name` is schema.table, or a Parquet or CSV file. `folder` is for the private lake and server. Raises
    BadInput for a file that cannot be read, UsageError for a table that does not exist or has no primary
    key."""
    settings = replace(settings, lake=LakeAddress.at(folder / "lake"))
    path = Path(name).expanduser()
    if not is_file_name(path):
        yield from _opened(settings, name)
        return
    rows, warnings = read_rows(path, folder)
    settings = Settings(folder / "home", settings.lake)
    with open_store(settings, install=False) as store:
        try:
            load_rows(store, Identifier(*LOADED.split(".")), rows)
        except psycopg.DataError as error:
            raise BadInput(f"Postgres cannot store {path}: {error}; choose another file") from error
        except psycopg.ProgrammingError as error:
            raise BadInput(
                f"Postgres cannot store {path}: {error.diag.message_primary}; choose another file"
            ) from error
    yield from _opened(settings, LOADED, warnings)


def _opened(settings: Settings, name: str, warnings: tuple[str, ...] = ()) -> Iterator[Subject]:
    with open_store(settings, install=False) as store:
        epoch = take_snapshot(store, Lake.create(settings.lake), tables=[name])
        with store.connect() as connection:
            query = files("bench").joinpath("own", "relation.sql").read_bytes()
            found = connection.execute(query, {"name": name}).fetchone()
            if found is None:
                raise BadInput(f"table {name} was dropped during the run; run the command again")
            oid, schema, relation, partitioned, generated, nondeterministic = found
            columns = tuple(read_columns(connection, [oid])[oid])
        (table,) = [table for table, state in epoch.tables.items() if state.relation == oid]
        if epoch.tables[table].rows == 0:
            raise BadInput(f"table {name} has no rows; choose another table")
        yield Subject(
            settings,
            store,
            epoch,
            table,
            (schema, relation),
            columns,
            partitioned,
            frozenset(generated),
            frozenset(nondeterministic),
            warnings,
        )
