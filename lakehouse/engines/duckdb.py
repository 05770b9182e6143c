"""DuckDB over the files of an epoch: in memory, one view a table.

DuckDB reads the pinned files and, once the views are there, can reach nothing else: no other file, no
network, no extension, no setting. What is allowed to be read it would also overwrite, though
(`COPY … TO 'a pinned file' (USE_TMP_FILE false)`, in version 2 even inside a WITH or an EXPLAIN), so what
is let through is one SELECT, or an EXPLAIN of one, without the word COPY, and without the functions that
wait, write a log or run a text as SQL. Files on S3 come through
`s3_for_duckdb.py`, which knows the pinned ones only and cannot write.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from lakehouse.engines import NO_PARAMETERS, has_ride_table, ride_table_view
from lakehouse.engines.parameters import Parameters, refuse_wrong_parameters
from lakehouse.epoch import Epoch
from ridelake.errors import QueryRejected
from ridelake.settings import Settings

# Looked for in strings and comments too: a pattern that is to find out where those end could be misled.
NOT_LET_THROUGH = re.compile(
    r"""pg_sleep | sleep_ms | write_log | json_execute | \bquery(_table)?"?\s*(?=\(|/\*|--) | U&["']""",
    re.VERBOSE | re.IGNORECASE,
)
EXPLAIN = re.compile(r"\s*explain\b\s*(analyze\b)?\s*(\([^)]*\))?", re.IGNORECASE)


class DuckDB:
    """See the module."""

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
        refuse_wrong_parameters(query, parameters)
        try:
            with self._reading():
                _refuse_writing(self.name, query)
                relation = self._connection.sql(query, params=dict(parameters) or None)
                # `arrow()` would be a reader of what is yet to be computed.
                return relation.to_arrow_table()
        except duckdb.Error as error:
            raise QueryRejected(f"{self.name}: {error}") from error

    def interrupt(self) -> None:
        self._connection.interrupt()


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[DuckDB]:
    connection = duckdb.connect(":memory:")
    try:
        reading = _reading(connection, settings, epoch)
        with reading():
            for name, table in epoch.tables.items():
                connection.read_parquet(table.locations, hive_partitioning=False).create_view(name)
            if has_ride_table(epoch):
                connection.execute(ride_table_view())
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET temp_directory = ?", [spill_folder()])
        connection.execute("SET python_enable_replacements = false")  # our variables are not its tables
        connection.execute("SET allowed_paths = ?", [[file.location for file in epoch.files]])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield DuckDB(connection, reading)
    finally:
        with suppress(duckdb.Error):  # busy with a query that was given up; it goes with the process
            connection.close()


def spill_folder() -> str:
    """For what does not fit in memory; its own choice is ./.tmp."""
    return str(Path(tempfile.gettempdir()) / f"ridelake-duckdb-{os.getpid()}")


def _reading(
    connection: duckdb.DuckDBPyConnection, settings: Settings, epoch: Epoch
) -> Callable[[], AbstractContextManager[None]]:
    """What is to be open while files are read."""
    if not settings.lake.remote:
        return nullcontext
    from lakehouse.s3_for_duckdb import let_read  # a lake in a folder need not load it

    return let_read(connection, settings.lake, [file.location for file in epoch.files]).refusals


def _refuse_writing(engine: str, query: str) -> None:
    """Judged by DuckDB's own parser and its own tokens, not by a pattern."""
    statements = duckdb.extract_statements(query)
    if len(statements) != 1:
        raise QueryRejected(f"{engine}: one statement at a time, please; this is {len(statements)}")
    if found := NOT_LET_THROUGH.search(query):
        raise QueryRejected(f"{engine}: {found[0].strip()} is not let through here: leave it out")
    kind = statements[0].type
    if _has_copy(query):
        raise QueryRejected(
            f'{engine}: COPY writes files, and an epoch is read-only: leave it out, or write "copy"'
        )
    if kind == duckdb.StatementType.EXPLAIN:
        explained = EXPLAIN.sub("", query, count=1)
        if explained == query:  # a comment stands before it
            raise QueryRejected(f"{engine}: put EXPLAIN first")
        _refuse_writing(engine, explained)
    elif kind != duckdb.StatementType.SELECT:
        raise QueryRejected(
            f"{engine}: {kind.name} is not allowed, because an epoch is read-only: use SELECT"
        )


def _has_copy(query: str) -> bool:
    text = query.encode()  # DuckDB counts bytes
    keywords = (begin for begin, kind in duckdb.tokenize(query) if kind == duckdb.token_type.keyword)
    return any(re.match(rb"copy\b", text[begin:], re.IGNORECASE) for begin in keywords)
