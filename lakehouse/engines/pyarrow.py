"""PyArrow reads, DuckDB computes.

Arrow's own executor, Acero, has no SQL, no window and no sub-query; a planner of ours over it would be an
engine of our own making, and its times would be about us. So `pyarrow` is what people do with it: each table
is a `pyarrow.dataset` of the pinned files, its scanner decodes them, with the columns and filters of the
query pushed down into it, and DuckDB runs the query over the batches. Beside `duckdb` it shows what the
reader alone is worth. DuckDB is closed as in `duckdb.py`, and here it may open no file at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from lakehouse.engines import has_ride_table, ride_table_view
from lakehouse.engines.duckdb import DuckDB, spill_folder
from lakehouse.epoch import Epoch
from ridelake.settings import S3, Settings


class PyArrow(DuckDB):
    """See the module."""

    name = "pyarrow"

    def version(self) -> str:
        return str(pa.__version__)


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[PyArrow]:
    connection = duckdb.connect(":memory:")
    try:
        for name, table in epoch.tables.items():
            connection.register(name, _dataset(table.locations, settings))
        if has_ride_table(epoch):
            connection.execute(ride_table_view())
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET temp_directory = ?", [spill_folder()])
        connection.execute("SET python_enable_replacements = false")  # our variables are not its tables
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield PyArrow(connection)
    finally:
        with suppress(duckdb.Error):  # busy with a query that was given up; it goes with the process
            connection.close()


def _dataset(locations: list[str], settings: Settings) -> ds.Dataset:
    """A `--fresh` table has files in the lake and files beside it."""
    remote = [location.removeprefix(S3) for location in locations if location.startswith(S3)]
    local = [location for location in locations if not location.startswith(S3)]
    parts = []
    if remote:
        from lakehouse.s3 import s3_filesystem  # a lake in a folder need not load it

        parts.append(ds.dataset(remote, format="parquet", filesystem=s3_filesystem(settings.lake)))
    if local:
        parts.append(ds.dataset(local, format="parquet"))
    return parts[0] if len(parts) == 1 else ds.dataset(parts)
