"""DuckDB on the files of an epoch: an in-memory database with one view per table.

Once the views exist, DuckDB can read only the files of the epoch: other files, the network, extensions and
settings are disabled. It could still overwrite these files (`COPY … TO 'a file' (USE_TMP_FILE false)`, in
version 2 also inside a WITH or an EXPLAIN). Therefore only one SELECT, or an EXPLAIN of one, is allowed,
without the keyword COPY and without functions that wait, write a log or execute text as SQL. Files on S3 are
read through `s3.py`, which is read-only and limited to the files of the epoch.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from lakehouse.engines import view_statements
from lakehouse.engines.parameters import NO_PARAMETERS, Parameters, check_parameters
from lakehouse.table.epoch import Epoch, TableState
from ridelake.errors import QueryRejected
from ridelake.settings import Settings

# Matched in strings and comments too, because a regular expression cannot find their end reliably.
FORBIDDEN = re.compile(
    r"""pg_sleep | sleep_ms | write_log | json_execute | \bquery(_table)?"?\s*(?=\(|/\*|--) | U&["']""",
    re.VERBOSE | re.IGNORECASE,
)
EXPLAIN = re.compile(r"\s*explain\b\s*(analyze\b)?\s*(\([^)]*\))?", re.IGNORECASE)


class DuckDB:
    """An in-memory DuckDB connection with one view per table of the epoch."""

    name = "duckdb"

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        reading: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._connection = connection
        self._reading = reading

    def version(self) -> str:
        return duckdb.__version__

    def sql(self, query: str, parameters: Parameters = NO_PARAMETERS) -> pa.Table:
        check_parameters(query, parameters)
        try:
            with self._reading():
                _refuse_writing(self.name, query)
                relation = self._connection.sql(query, params=dict(parameters) or None)
                # `arrow()` would return a lazy reader.
                return relation.to_arrow_table()
        except duckdb.Error as error:
            raise QueryRejected(f"{self.name}: {error}") from error

    def interrupt(self) -> None:
        self._connection.interrupt()


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[DuckDB]:
    with open_views(settings, epoch) as (connection, reading):
        yield DuckDB(connection, reading)


@contextmanager
def open_views(
    settings: Settings, epoch: Epoch
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Callable[[], AbstractContextManager[None]]]]:
    """A connection with a view for each table, which can open only the files of the epoch, and a context in
    which it reads them."""
    with open_connection() as connection:
        reading = _reading(connection, settings, epoch)
        with reading():
            for name, table in epoch.tables.items():
                _rows(connection, settings, table).create_view(name)
            for statement in view_statements(settings, epoch):
                connection.execute(statement)
        connection.execute("SET allowed_paths = ?", [[file.location for file in epoch.files]])
        lock_connection(connection)
        yield connection, reading


def _rows(
    connection: duckdb.DuckDBPyConnection, settings: Settings, table: TableState
) -> duckdb.DuckDBPyRelation:
    if not table.deletes:
        return connection.read_parquet(table.locations, hive_partitioning=False)
    # Imported here, because these modules take 0.1 s to import and only tables with deleted rows need them.
    from lakehouse.table.deletes import deleted_rows
    from lakehouse.table.duckdb_files import open_rows

    return open_rows(connection, table.locations, deleted_rows(settings.lake, table))


@contextmanager
def open_connection() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(":memory:")
    try:
        connection.execute("SET TimeZone = 'UTC'")
        # The folder for data that does not fit in memory. DuckDB's default is ./.tmp.
        spill = Path(tempfile.gettempdir()) / f"ridelake-duckdb-{os.getpid()}"
        connection.execute("SET temp_directory = ?", [str(spill)])
        yield connection
    finally:
        with suppress(duckdb.Error):  # a cancelled query may still be running; it ends with the process
            connection.close()


def lock_connection(connection: duckdb.DuckDBPyConnection) -> None:
    """Disable other files, the network, Python variables as tables, and changes of settings."""
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _reading(
    connection: duckdb.DuckDBPyConnection, settings: Settings, epoch: Epoch
) -> Callable[[], AbstractContextManager[None]]:
    """A context in which files are read, which converts S3 errors."""
    if not settings.lake.remote:
        return nullcontext
    from lakehouse.table.s3 import register_files  # imported here, because a local lake does not need it

    return register_files(connection, settings.lake, [file.location for file in epoch.files]).refusals


def _refuse_writing(engine: str, query: str) -> None:
    """Check that the query only reads. Raises QueryRejected unless the query is one SELECT or an EXPLAIN of
    one, by DuckDB's own parser."""
    statements = duckdb.extract_statements(query)
    if len(statements) != 1:
        raise QueryRejected(f"{engine}: expected one statement, got {len(statements)}")
    if found := FORBIDDEN.search(query):
        raise QueryRejected(f"{engine}: {found[0].strip()} is not allowed: remove it")
    kind = statements[0].type
    if _has_copy(query):
        raise QueryRejected(
            f"{engine}: COPY is not allowed, because an epoch is read-only: remove it, or quote the name "
            '"copy"'
        )
    if kind == duckdb.StatementType.EXPLAIN:
        explained = EXPLAIN.sub("", query, count=1)
        if explained == query:  # a comment precedes it
            raise QueryRejected(f"{engine}: EXPLAIN must be the first word of the query")
        _refuse_writing(engine, explained)
    elif kind != duckdb.StatementType.SELECT:
        raise QueryRejected(
            f"{engine}: {kind.name} is not allowed, because an epoch is read-only: use SELECT"
        )


def _has_copy(query: str) -> bool:
    text = query.encode()  # DuckDB counts bytes
    keywords = (begin for begin, kind in duckdb.tokenize(query) if kind == duckdb.token_type.keyword)
    return any(re.match(rb"copy\b", text[begin:], re.IGNORECASE) for begin in keywords)
