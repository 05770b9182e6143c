"""PyArrow reads the files, DuckDB executes the query.

Arrow's executor, Acero, has no SQL, no window functions and no subqueries. The engine therefore uses PyArrow
as it is commonly used: each table is a `pyarrow.dataset` of the epoch's files, its scanner decodes them with
the columns and filters of the query pushed down, and DuckDB executes the query on the batches. The comparison
with `duckdb` shows the effect of the reader. DuckDB is restricted as in `duckdb.py`, and opens no files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, reduce

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from sqlglot import exp

from lakehouse.engines import view_statements
from lakehouse.engines.duckdb import DuckDB, lock_connection, open_connection
from lakehouse.table.deletes import deleted_keys, deleted_rows, without_rows
from lakehouse.table.epoch import Epoch, TableState
from lakehouse.table.s3 import read_errors, s3_filesystem
from ridelake.settings import S3, Settings


class PyArrow(DuckDB):
    """DuckDB over `pyarrow.dataset` objects instead of over files."""

    name = "pyarrow"

    def version(self) -> str:
        return str(pa.__version__)


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[PyArrow]:
    reading = partial(read_errors, settings.lake, [file.location for file in epoch.files])
    with open_connection() as connection:
        with reading():
            for name, table in epoch.tables.items():
                _open_rows(connection, table, settings).create_view(name)
            for statement in view_statements(settings, epoch):
                connection.execute(statement)
        lock_connection(connection)
        yield PyArrow(connection, reading)


def _open_rows(
    connection: duckdb.DuckDBPyConnection, table: TableState, settings: Settings
) -> duckdb.DuckDBPyRelation:
    """The rows of the table. A dataset has no row numbers, so deleted rows are removed by their keys."""
    keys = deleted_keys(settings.lake, table, deleted_rows(settings.lake, table))
    whole = [location for location in table.locations if location not in keys]
    parts = [connection.from_arrow(_dataset(whole, settings))] if whole else []
    same_key = " AND ".join(f"rows.{name} = deleted.{name}" for name in map(_quoted, table.key))
    for location, deleted in keys.items():
        rows = connection.from_arrow(_dataset([location], settings)).set_alias("rows")
        parts.append(rows.join(connection.from_arrow(deleted).set_alias("deleted"), same_key, how="anti"))
    return reduce(lambda left, right: left.union(right), parts)


def table_dataset(settings: Settings, table: TableState) -> ds.Dataset:
    """The rows of the table as a dataset. A dataset has no row numbers, so a file with deleted rows is read
    into memory; the other files are read when the dataset is scanned."""
    deleted = deleted_rows(settings.lake, table)
    whole = [location for location in table.locations if location not in deleted]
    parts: list[ds.Dataset] = [_dataset(whole, settings)] if whole else []
    for location, positions in deleted.items():
        rows = _dataset([location], settings).to_table()
        parts.append(ds.dataset(without_rows(rows, positions)))
    return parts[0] if len(parts) == 1 else ds.dataset(parts)


def _quoted(name: str) -> str:
    return exp.to_identifier(name, quoted=True).sql("duckdb")


def _dataset(locations: list[str], settings: Settings) -> ds.Dataset:
    """A `--fresh` table has files in the lake and local files."""
    remote = [location.removeprefix(S3) for location in locations if location.startswith(S3)]
    local = [location for location in locations if not location.startswith(S3)]
    parts = []
    if remote:
        parts.append(ds.dataset(remote, format="parquet", filesystem=s3_filesystem(settings.lake)))
    if local:
        parts.append(ds.dataset(local, format="parquet"))
    return parts[0] if len(parts) == 1 else ds.dataset(parts)
