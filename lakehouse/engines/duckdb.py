"""DuckDB over the files of an epoch: in memory, one view a table.

DuckDB reads the pinned files and, once the views are there, can reach nothing else: no other file, no
network, no extension, no setting. What is allowed to be read it would also overwrite, though
(`COPY … TO 'a pinned file' (USE_TMP_FILE false)`, in version 2 even inside a WITH or an EXPLAIN), so what
is let through is one SELECT, or an EXPLAIN of one, without the word COPY.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from lakehouse.engines import ride_table_view
from lakehouse.epoch import Epoch
from ridelake.errors import QueryRejected
from ridelake.settings import Settings

EXPLAIN = re.compile(r"\s*explain\b\s*(analyze\b)?\s*(\([^)]*\))?", re.IGNORECASE)


class DuckDB:
    """See the module."""

    name = "duckdb"

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def version(self) -> str:
        return duckdb.__version__

    def sql(self, query: str) -> pa.Table:
        try:
            _refuse_writing(query)
            relation = self._connection.sql(query)
            # `arrow()` would be a reader of what is yet to be computed.
            return relation.to_arrow_table()
        except duckdb.Error as error:
            raise QueryRejected(f"duckdb: {error}") from error

    def interrupt(self) -> None:
        self._connection.interrupt()


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[DuckDB]:
    connection = duckdb.connect(":memory:")
    try:
        for name, table in epoch.tables.items():
            connection.read_parquet([str(path) for path in table.files]).create_view(name)
        connection.execute(ride_table_view())
        connection.execute("SET TimeZone = 'UTC'")
        spill = Path(tempfile.gettempdir()) / f"ridelake-duckdb-{os.getpid()}"  # its own choice is ./.tmp
        connection.execute("SET temp_directory = ?", [str(spill)])
        connection.execute("SET python_enable_replacements = false")  # our variables are not its tables
        connection.execute("SET allowed_paths = ?", [[str(path) for path in epoch.files]])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield DuckDB(connection)
    finally:
        connection.close()


def _refuse_writing(query: str) -> None:
    """Judged by DuckDB's own parser and its own tokens, not by a pattern."""
    statements = duckdb.extract_statements(query)
    if len(statements) != 1:
        raise QueryRejected(f"duckdb: one statement at a time, please; this is {len(statements)}")
    kind = statements[0].type
    if _has_copy(query):
        raise QueryRejected(
            'duckdb: COPY writes files, and an epoch is read-only: leave it out, or write "copy"'
        )
    if kind == duckdb.StatementType.EXPLAIN:
        explained = EXPLAIN.sub("", query, count=1)
        if explained == query:  # a comment stands before it
            raise QueryRejected("duckdb: put EXPLAIN first")
        _refuse_writing(explained)
    elif kind != duckdb.StatementType.SELECT:
        raise QueryRejected(f"duckdb: only questions are answered here, and {kind.name} is none: use SELECT")


def _has_copy(query: str) -> bool:
    text = query.encode()  # DuckDB counts bytes
    keywords = (begin for begin, kind in duckdb.tokenize(query) if kind == duckdb.token_type.keyword)
    return any(re.match(rb"copy\b", text[begin:], re.IGNORECASE) for begin in keywords)
