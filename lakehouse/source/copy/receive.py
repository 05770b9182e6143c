"""Receive the rows of a COPY in buffers of some megabytes, with the begin and end of each row.

libpq returns one message per row, and these calls cost more than everything else together. The response to a
COPY is therefore read from the connection's socket, many rows per call, and split into messages here. libpq
does not see the response, so the connection cannot be used afterwards. If the socket uses TLS or GSSAPI, the
rows are received by libpq, at half the speed.
"""

import select
import socket
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import chain
from os import dup

import numpy as np
import psycopg
from psycopg import Connection
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow
from psycopg.sql import Composed

from lakehouse.source.copy.answer import PREAMBLE_BYTES, SIGNATURE, TRAILER, CopyResponse, incomplete_copy
from lakehouse.source.copy.decode import READABLE_TAIL_BYTES
from lakehouse.source.copy.framing import HEADER_BYTES, Bytes, Numbers
from ridelake.errors import RidelakeError

BUFFER_BYTES = 4 * 1024 * 1024
READY = b"Z\0\0\0\5"  # the start of ReadyForQuery
BATCH_ROWS = 32_768  # rows of libpq per chunk


@dataclass(frozen=True, slots=True)
class CopyChunk:
    """Rows of COPY BINARY, without preamble and trailer, in `buffer` between `begins` and `ends`."""

    buffer: Bytes
    begins: Numbers
    ends: Numbers


def new_buffer(size: int = BUFFER_BYTES) -> Bytes:
    return np.empty(size + READABLE_TAIL_BYTES, np.uint8)


def is_plain(connection: Connection[TupleRow]) -> bool:
    """Whether the socket carries the protocol unencrypted."""
    return not (connection.pgconn.ssl_in_use or connection.pgconn.used_gssapi)


def socket_of(connection: Connection[TupleRow]) -> socket.socket:
    """A duplicate of the connection's socket, which must also be closed."""
    return socket.socket(fileno=dup(connection.pgconn.socket))


def receive_raw(
    connection: Connection[TupleRow], server: socket.socket, copy: Composed
) -> Generator[CopyChunk, None, None]:
    """The rows of `copy`, read from the connection's socket. Closes the socket and the connection.

    Raises RidelakeError if the server reports an error or the connection is lost."""
    try:
        _send(connection.pgconn, copy.as_bytes(connection))
        server.setblocking(True)
        yield from _chunks(server)
    finally:
        server.close()
        connection.close()


def _send(pgconn: PGconn, query: bytes) -> None:
    pgconn.send_query(query)
    while pgconn.flush():
        select.select([], [pgconn.socket], [])


def _chunks(server: socket.socket) -> Iterator[CopyChunk]:
    answer = CopyResponse()
    buffer, used = new_buffer(), 0
    while not answer.ended:
        room = len(buffer) - READABLE_TAIL_BYTES
        used, is_open = _fill(server, buffer, used, room)
        begins, ends, stop = answer.read(buffer, used)
        if not is_open and not answer.ended:
            raise RidelakeError("lost the connection to Postgres during a COPY: run the command again")
        rest = used - stop
        following = new_buffer(max(BUFFER_BYTES, message_bytes(buffer[stop:used])))
        following[:rest] = buffer[stop:used]
        if len(begins):
            yield CopyChunk(buffer, begins, ends)
        buffer, used = following, rest
    if not answer.complete:
        raise incomplete_copy()


def message_bytes(begin: Bytes) -> int:
    """The length of the message that begins with these bytes, up to 1 GiB; 0 if its header is incomplete."""
    if len(begin) < HEADER_BYTES:
        return 0
    return 1 + int.from_bytes(begin[1:HEADER_BYTES].tobytes(), "big")


def _fill(server: socket.socket, buffer: Bytes, used: int, room: int) -> tuple[int, bool]:
    """Receive until the buffer is full or the response seems to end. Returns the number of bytes in it, and
    whether the connection is open."""
    view = memoryview(buffer)[:room]  # type: ignore[arg-type]
    while used < room:
        try:
            count = server.recv_into(view[used:])
        except ConnectionError:
            count = 0
        if not count:
            return used, False
        used += count
        if used > 5 and view[used - 6 : used - 1].tobytes() == READY:  # may be data; CopyResponse decides
            break
    return used, True


def receive_by_libpq(connection: Connection[TupleRow], copy: Composed) -> Generator[CopyChunk, None, None]:
    """The same rows by libpq, one message per row. The connection stays usable; close the generator to end
    the COPY early.

    It does not use psycopg's `Copy`, whose `read()` doubles the time. Raises psycopg.Error, or
    RidelakeError."""
    pgconn = connection.pgconn
    try:
        _send(pgconn, copy.as_bytes(connection))
        _expect(_result(pgconn), ExecStatus.COPY_OUT)
        messages = _messages(pgconn)
        first = next(messages, b"")
        if not first.startswith(SIGNATURE):
            raise RidelakeError("the COPY of the server is not in the binary format of Postgres")
        rows = chain([first[PREAMBLE_BYTES:]] if len(first) > PREAMBLE_BYTES else [], messages)
        yield from _chunks_of(rows)
        if next(messages, None) is not None:
            raise incomplete_copy()
        if _result(pgconn) is not None:
            raise incomplete_copy()
    except BaseException:
        _cancel_copy(connection)
        raise


def _chunks_of(messages: Iterator[bytes]) -> Iterator[CopyChunk]:
    rows: list[bytes] = []
    size = 0
    for row in messages:
        if row == TRAILER:
            if rows:
                yield _joined(rows)
            return
        rows.append(row)
        size += len(row)
        if len(rows) == BATCH_ROWS or size >= BUFFER_BYTES:
            yield _joined(rows)
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
        try:
            kind: type[psycopg.Error] = psycopg.errors.lookup(state)
        except KeyError:
            kind = psycopg.OperationalError
        raise kind(message.strip())


def _joined(rows: list[bytes]) -> CopyChunk:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    ends = np.cumsum(lengths)
    buffer = np.frombuffer(b"".join([*rows, bytes(READABLE_TAIL_BYTES)]), np.uint8)
    return CopyChunk(buffer, ends - lengths, ends)


def _messages(pgconn: PGconn) -> Iterator[bytes]:
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
