"""One table out of Postgres: COPY, in the order in which it will lie in the files."""

import select
from collections.abc import Generator, Iterator, Sequence

import pyarrow as pa
from psycopg import Connection
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn
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
) -> Generator[pa.RecordBatch, None, None]:
    """All rows of `table`, as of the connection's snapshot, in `order_by`. Close it to end the COPY early."""
    try:
        with connection.cursor() as cursor, cursor.copy(_copy(table, columns, order_by)) as copy:
            first = bytes(copy.read())
            if not first.startswith(SIGNATURE):
                raise RidelakeError("the server's COPY does not speak the binary format of Postgres")
            row = first[HEADER_BYTES:] or next(_messages(connection.pgconn))
            while row != TRAILER:
                rows, size = [row], len(row)
                for row in _messages(connection.pgconn):
                    if row == TRAILER or len(rows) == batch_rows or size >= BATCH_BYTES_MAX:
                        break
                    rows.append(row)
                    size += len(row)
                yield decode(rows, columns)
            while copy.read():  # to the end of the command
                pass
    except BaseException:
        _break_off(connection)
        raise


def _break_off(connection: Connection[TupleRow]) -> None:
    """psycopg ends a COPY that fails, but not one whose very beginning is interrupted (Ctrl-C while the
    server sorts). Left running, it would not let the transaction be rolled back."""
    pgconn = connection.pgconn
    if pgconn.transaction_status == TransactionStatus.ACTIVE:
        connection.cancel_safe()
        while result := pgconn.get_result():
            while result.status == ExecStatus.COPY_OUT and pgconn.get_copy_data(0)[0] > 0:
                pass


def _messages(pgconn: PGconn) -> Iterator[bytes]:
    """What COPY sends, a row a message. From libpq directly: psycopg's `copy.read()` takes as long for a
    row as everything else together. Waits in `select`, so that Ctrl-C is heard while the server sorts."""
    while True:
        size, row = pgconn.get_copy_data(1)
        while size > 0:
            yield bytes(row)  # 100,000 live memoryviews would keep the garbage collector busy, bytes do not
            size, row = pgconn.get_copy_data(1)
        if size < 0:
            raise RidelakeError("the server ended its COPY in the middle: run it again")
        select.select([pgconn.socket], [], [])
        pgconn.consume_input()


def _copy(table: str, columns: Sequence[Column], order_by: Sequence[str]) -> Composed:
    """COPY takes no bound values, and names cannot be bound at all: psycopg quotes them."""
    wanted = [
        SQL("{}::text").format(Identifier(c.name)) if c.as_text else Identifier(c.name) for c in columns
    ]
    query = SQL("SELECT {} FROM {}").format(SQL(", ").join(wanted), Identifier(table))
    if order_by:
        query += SQL(" ORDER BY ") + SQL(", ").join(Identifier(name) for name in order_by)
    return SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
