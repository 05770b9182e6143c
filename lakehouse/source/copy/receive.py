"""Receive the rows of a COPY by libpq, one message per row. The connection stays usable.

It does not use psycopg's `Copy`, whose `read()` doubles the time.
"""

import select
from collections.abc import Callable, Generator, Iterator
from itertools import chain

import psycopg
from psycopg import Connection
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow
from psycopg.sql import Composed

from ridelake.errors import RidelakeError

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
PREAMBLE_BYTES = len(SIGNATURE) + 4 + 4  # flags, length of the (empty) extension
TRAILER = b"\xff\xff"


class CopyAborted(RidelakeError):
    """The server aborted a COPY. `why`: its message."""

    def __init__(self, sqlstate: str, why: str) -> None:
        self.sqlstate, self.why = sqlstate, why
        super().__init__(f"the server aborted its COPY ({why}): run the command again")


def server_error(sqlstate: str, message: str) -> psycopg.Error:
    """The error of psycopg for an error of the server. A function may raise any SQLSTATE."""
    try:
        kind: type[psycopg.Error] = psycopg.errors.lookup(sqlstate)
    except KeyError:
        kind = psycopg.DatabaseError if sqlstate else psycopg.OperationalError
    error = kind(message)
    error.sqlstate = sqlstate or None
    return error


def incomplete_copy() -> RidelakeError:
    return RidelakeError("the COPY of the server is incomplete: run the command again")


def send_copy(connection: Connection[TupleRow], copy: Composed) -> None:
    pgconn = connection.pgconn
    pgconn.send_query(copy.as_bytes(connection))
    while pgconn.flush():
        select.select([], [pgconn.socket], [])


def no_pause() -> None:
    pass


def receive_rows(
    connection: Connection[TupleRow],
    copy: Composed,
    rows_max: int,
    bytes_max: int,
    pause: Callable[[], None] = no_pause,
) -> Generator[list[bytes], None, None]:
    """The rows of `copy`, without preamble and trailer, in lists of at most `rows_max` rows and about
    `bytes_max` bytes. `pause` is called before each read. Close the generator to end the COPY early. Raises
    psycopg.Error, RidelakeError, or the error of `pause`."""
    pgconn = connection.pgconn
    try:
        send_copy(connection, copy)
        _expect(_result(pgconn), ExecStatus.COPY_OUT)
        messages = _messages(pgconn, pause)
        first = next(messages, b"")
        if not first.startswith(SIGNATURE):
            raise RidelakeError("the COPY of the server is not in the binary format of Postgres")
        rows = chain([first[PREAMBLE_BYTES:]] if len(first) > PREAMBLE_BYTES else [], messages)
        yield from _lists(rows, rows_max, bytes_max)
        if next(messages, None) is not None:
            raise incomplete_copy()
        if _result(pgconn) is not None:
            raise incomplete_copy()
    except BaseException:
        _cancel_copy(connection)
        raise


def _lists(messages: Iterator[bytes], rows_max: int, bytes_max: int) -> Iterator[list[bytes]]:
    rows: list[bytes] = []
    size = 0
    for row in messages:
        if row == TRAILER:
            if rows:
                yield rows
            return
        rows.append(row)
        size += len(row)
        if len(rows) == rows_max or size >= bytes_max:
            yield rows
            rows, size = [], 0
    raise incomplete_copy()


def _result(pgconn: PGconn) -> PGresult | None:
    """The next result. It waits in `select`, so that Ctrl-C works while the server sorts."""
    while pgconn.is_busy():
        select.select([pgconn.socket], [], [])
        pgconn.consume_input()
    return pgconn.get_result()


def _expect(result: PGresult | None, status: ExecStatus) -> None:
    if result is None:
        raise incomplete_copy()
    if result.status != status:
        state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        message = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode(
            "utf-8", "replace"
        )
        raise server_error(state, message.strip())


def _messages(pgconn: PGconn, pause: Callable[[], None]) -> Iterator[bytes]:
    """The messages of COPY, one per row, until it ends or fails."""
    while True:
        size, row = pgconn.get_copy_data(1)
        while size > 0:
            yield bytes(row)  # bytes, because 100,000 memoryviews would slow down the garbage collector
            size, row = pgconn.get_copy_data(1)
        if size < 0:
            result = _result(pgconn)
            _expect(result, ExecStatus.COMMAND_OK)
            return
        pause()
        select.select([pgconn.socket], [], [])
        pgconn.consume_input()


def _cancel_copy(connection: Connection[TupleRow]) -> None:
    """Cancel a COPY after an error or interrupt. While it runs, the transaction cannot be rolled back."""
    pgconn = connection.pgconn
    if pgconn.transaction_status == TransactionStatus.ACTIVE:
        connection.cancel_safe()
        while result := pgconn.get_result():
            while result.status == ExecStatus.COPY_OUT and pgconn.get_copy_data(0)[0] > 0:
                pass
