"""The table under test. In the user's database it is only read; a copy, to insert some rows into, is made in
a schema `ridelake_bench` and dropped. A file is loaded into an embedded server of our own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg.sql import SQL, Composed, Identifier

from lakehouse.catalog import Lake
from lakehouse.columns import Column, read_columns
from lakehouse.epoch import Epoch, TableState
from lakehouse.take import take_snapshot
from oltp.store import Store, open_store, transaction
from ridelake.errors import BadInput
from ridelake.settings import LakeAddress, Settings

FILE_SUFFIXES = (".parquet", ".csv")
LOADED = "loaded"

# Arrow → Postgres, for a file's columns. What is not here is left out, and named.
POSTGRES_TYPES = (
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_integer, "bigint"),
    (pa.types.is_floating, "double precision"),
    (pa.types.is_date, "date"),
    (lambda arrow: pa.types.is_timestamp(arrow) and arrow.tz is None, "timestamp"),
    (pa.types.is_timestamp, "timestamptz"),
    (pa.types.is_string, "text"),
    (pa.types.is_large_string, "text"),
    (pa.types.is_dictionary, "text"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """`settings` lead the engines to it, under `name`; `relation` is schema and table in Postgres; `key` the
    column of a primary key of one column, or None."""

    settings: Settings
    store: Store
    epoch: Epoch
    name: str
    relation: tuple[str, ...]
    columns: tuple[Column, ...]
    left_out: tuple[str, ...] = ()

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
    """`name` is schema.table, or a Parquet or CSV file; `folder` will hold what is ours. Raises BadInput for
    a file that cannot be read, UsageError for a table that is not there or has no primary key."""
    settings = replace(settings, lake=LakeAddress.at(folder / "lake"))
    path = Path(name).expanduser()
    if path.suffix.lower() not in FILE_SUFFIXES:
        yield from _opened(settings, name)
        return
    settings = Settings(folder / "home", settings.lake)
    with open_store(settings, install=False) as store:
        left_out = _load(store, path)
    yield from _opened(settings, f"public.{LOADED}", left_out)


def _opened(settings: Settings, name: str, left_out: tuple[str, ...] = ()) -> Iterator[Subject]:
    with open_store(settings, install=False) as store:
        epoch = take_snapshot(store, Lake.create(settings.lake), tables=[name])
        with store.connect() as connection:
            query = files("bench").joinpath("own", "relation.sql").read_bytes()
            oid, schema, relation = connection.execute(query, {"name": name}).fetchone() or (0, "", "")
            columns = tuple(read_columns(connection, [oid])[oid])
        (table,) = [table for table, state in epoch.tables.items() if state.relation == oid]
        if epoch.tables[table].rows == 0:
            raise BadInput(f"{name} has no rows, so there is nothing to measure")
        yield Subject(settings, store, epoch, table, (schema, relation), columns, left_out)


def _load(store: Store, path: Path) -> tuple[str, ...]:
    """The file becomes a table with a key of its own; the names of the columns that it could not have."""
    rows = read_rows(path)
    types = {field.name: _postgres_type(field.type) for field in rows.schema}
    left_out = tuple(name for name, found in types.items() if found is None)
    kept = {name: found for name, found in types.items() if found is not None}
    if not kept:
        raise BadInput(f"{path} has no column of a simple type: choose another file")
    taken = {name.lower() for name in kept}
    key = next(name for name in ("row_number", "ridelake_row") if name not in taken)
    with store.connect() as connection:
        connection.execute(_create(key, kept))
        names = SQL(", ").join(map(Identifier, kept))
        copy = SQL("COPY {} ({}) FROM STDIN").format(Identifier("public", LOADED), names)
        with transaction(connection), connection.cursor().copy(copy) as into:
            for batch in rows.select(list(kept)).to_batches(max_chunksize=50_000):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    into.write_row(row)
        connection.execute(SQL("VACUUM (ANALYZE) {}").format(Identifier("public", LOADED)))
    return left_out


def _create(key: str, types: dict[str, str]) -> Composed:
    begin = SQL("CREATE TABLE {} ({} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    columns = [SQL(", {} {}").format(Identifier(name), SQL(found)) for name, found in types.items()]
    return begin.format(Identifier("public", LOADED), Identifier(key)) + Composed(columns) + SQL(")")


def read_rows(path: Path) -> pa.Table:
    """A Parquet or a CSV file, whole. Raises BadInput."""
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    try:
        if path.suffix.lower() == ".parquet":
            return pq.read_table(path)
        query = files("bench").joinpath("own", "read_csv.sql").read_text()
        with duckdb.connect() as connection:
            return connection.sql(query, params={"path": str(path)}).to_arrow_table()
    except (OSError, pa.ArrowException, duckdb.Error) as error:
        raise BadInput(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _postgres_type(arrow: pa.DataType) -> str | None:
    if pa.types.is_decimal(arrow) and arrow.precision <= 38:
        return f"numeric({arrow.precision}, {arrow.scale})"
    return next((found for fits, found in POSTGRES_TYPES if fits(arrow)), None)
