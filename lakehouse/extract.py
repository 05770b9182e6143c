"""One table out of Postgres: COPY, in the order in which it will lie in the files."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier

from lakehouse.columns import Column
from lakehouse.wire import HEADER_BYTES, SIGNATURE, TRAILER, decode
from ridelake.errors import RidelakeError

# A batch ends at a row group's rows, or here if its rows are long: what is in memory is one batch.
BATCH_BYTES_MAX = 64 * 1024 * 1024


def extract(
    connection: Connection[TupleRow],
    table: str,
    columns: Sequence[Column],
    order_by: Sequence[str],
    batch_rows: int,
) -> Iterator[pa.RecordBatch]:
    """All rows of `table`, as of the connection's snapshot, in `order_by`."""
    with connection.cursor() as cursor, cursor.copy(_copy(table, columns, order_by)) as copy:
        messages = iter(copy)
        first = bytes(next(messages))
        if not first.startswith(SIGNATURE):
            raise RidelakeError("the server's COPY does not speak the binary format of Postgres")
        rows, size = [], 0
        row = first[HEADER_BYTES:] or bytes(next(messages))
        while row != TRAILER:
            rows.append(row)
            size += len(row)
            if len(rows) == batch_rows or size >= BATCH_BYTES_MAX:
                yield decode(rows, columns)
                rows, size = [], 0
            row = bytes(next(messages))
        for _ in messages:  # to the end of the command
            pass
    if rows:
        yield decode(rows, columns)


def _copy(table: str, columns: Sequence[Column], order_by: Sequence[str]) -> Composed:
    """COPY takes no bound values, and names cannot be bound at all: psycopg quotes them."""
    wanted = [
        SQL("{}::text").format(Identifier(c.name)) if c.as_text else Identifier(c.name) for c in columns
    ]
    query = SQL("SELECT {} FROM {}").format(SQL(", ").join(wanted), Identifier(table))
    if order_by:
        query += SQL(" ORDER BY ") + SQL(", ").join(Identifier(name) for name in order_by)
    return SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
