"""What COPY sends, in buffers of some megabytes: rows, and where each begins and ends.

libpq hands out one message a row, and asking it for each costs more than all else together. So the answer
to a COPY is read from the connection's own socket, many rows a call, and the messages are told apart here.
libpq has no part in the answer then, and the connection cannot be used for anything else any more. Where
the socket carries TLS or GSSAPI, libpq is asked row by row: the same rows, at half the speed.
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

from lakehouse.extract.answer import PREAMBLE_BYTES, SIGNATURE, TRAILER, Answer, torn
from lakehouse.extract.decode import SLACK_BYTES
from lakehouse.extract.framing import HEADER_BYTES, Bytes, Numbers
from ridelake.errors import RidelakeError

BUFFER_BYTES = 4 * 1024 * 1024
READY = b"Z\0\0\0\5"  # how ReadyForQuery begins
BATCH_ROWS = 32_768  # of libpq's


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of COPY BINARY, without preamble and trailer, in `buffer` between `begins` and `ends`."""

    buffer: Bytes
    begins: Numbers
    ends: Numbers


def new_buffer(size: int = BUFFER_BYTES) -> Bytes:
    return np.empty(size + SLACK_BYTES, np.uint8)


def is_plain(connection: Connection[TupleRow]) -> bool:
    """Whether what the socket carries is the protocol itself."""
    return not (connection.pgconn.ssl_in_use or connection.pgconn.used_gssapi)


def socket_of(connection: Connection[TupleRow]) -> socket.socket:
    """The connection's socket, in a wrapping of its own, which is to be closed too."""
    return socket.socket(fileno=dup(connection.pgconn.socket))


def receive_raw(
    connection: Connection[TupleRow], server: socket.socket, copy: Composed
) -> Generator[Chunk, None, None]:
    """The rows of `copy`, read from the connection's socket. Afterwards both are closed.

    Raises RidelakeError if the server ends it with an error, or goes away."""
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


def _chunks(server: socket.socket) -> Iterator[Chunk]:
    answer = Answer()
    buffer, used = new_buffer(), 0
    while not answer.ended:
        room = len(buffer) - SLACK_BYTES
        used, is_open = _fill(server, buffer, used, room)
        begins, ends, stop = answer.read(buffer, used)
        if not is_open and not answer.ended:
            raise RidelakeError("the server went away in the middle of a COPY: run it again")
        rest = used - stop
        following = new_buffer(max(BUFFER_BYTES, message_bytes(buffer[stop:used])))
        following[:rest] = buffer[stop:used]
        if len(begins):
            yield Chunk(buffer, begins, ends)
        buffer, used = following, rest
    if not answer.complete:
        raise torn()


def message_bytes(begin: Bytes) -> int:
    """How long the message is that begins so; up to 1 GiB. 0 if its header is not complete."""
    if len(begin) < HEADER_BYTES:
        return 0
    return 1 + int.from_bytes(begin[1:HEADER_BYTES].tobytes(), "big")


def _fill(server: socket.socket, buffer: Bytes, used: int, room: int) -> tuple[int, bool]:
    """Receive until the buffer is full or the answer seems to end. Returns how much is in it, and whether
    the server is still there."""
    view = memoryview(buffer)[:room]  # type: ignore[arg-type]
    while used < room:
        try:
            count = server.recv_into(view[used:])
        except ConnectionError:
            count = 0
        if not count:
            return used, False
        used += count
        if used > 5 and view[used - 6 : used - 1].tobytes() == READY:  # it may be data: Answer knows
            break
    return used, True


def receive_by_libpq(connection: Connection[TupleRow], copy: Composed) -> Generator[Chunk, None, None]:
    """The same rows by libpq, a message each. The connection stays usable; close this to end it early.

    Not by psycopg's `Copy`, whose `read()` takes as long for a row as everything else together.
    Raises psycopg.Error, or RidelakeError."""
    pgconn = connection.pgconn
    try:
        _send(pgconn, copy.as_bytes(connection))
        _expect(_result(pgconn), ExecStatus.COPY_OUT)
        messages = _messages(pgconn)
        first = next(messages, b"")
        if not first.startswith(SIGNATURE):
            raise RidelakeError("the server's COPY does not speak the binary format of Postgres")
        rows = chain([first[PREAMBLE_BYTES:]] if len(first) > PREAMBLE_BYTES else [], messages)
        yield from _chunks_of(rows)
        if next(messages, None) is not None:
            raise torn()
        if _result(pgconn) is not None:
            raise torn()
    except BaseException:
        _break_off(connection)
        raise


def _chunks_of(messages: Iterator[bytes]) -> Iterator[Chunk]:
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
    raise torn()


def _result(pgconn: PGconn) -> PGresult | None:
    """Waits in `select`, so that Ctrl-C is heard while the server sorts."""
    while pgconn.is_busy():
        select.select([pgconn.socket], [], [])
        pgconn.consume_input()
    return pgconn.get_result()


def _expect(result: PGresult | None, status: ExecStatus) -> None:
    if result is None:
        raise torn()
    if result.status != status:
        state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        said = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode(
            "utf-8", "replace"
        )
        try:
            kind: type[psycopg.Error] = psycopg.errors.lookup(state)
        except KeyError:
            kind = psycopg.OperationalError
        raise kind(said.strip())


def _joined(rows: list[bytes]) -> Chunk:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    ends = np.cumsum(lengths)
    buffer = np.frombuffer(b"".join([*rows, bytes(SLACK_BYTES)]), np.uint8)
    return Chunk(buffer, ends - lengths, ends)


def _messages(pgconn: PGconn) -> Iterator[bytes]:
    """What COPY sends, a row a message, until it ends or fails: the result behind it says which."""
    while True:
        size, row = pgconn.get_copy_data(1)
        while size > 0:
            yield bytes(row)  # 100,000 live memoryviews would keep the garbage collector busy, bytes do not
            size, row = pgconn.get_copy_data(1)
        if size < 0:
            result = _result(pgconn)
            _expect(result, ExecStatus.COMMAND_OK)
            return
        select.select([pgconn.socket], [], [])
        pgconn.consume_input()


def _break_off(connection: Connection[TupleRow]) -> None:
    """End a COPY that fails here, or is interrupted. Left running, it would not let the transaction be
    rolled back."""
    pgconn = connection.pgconn
    if pgconn.transaction_status == TransactionStatus.ACTIVE:
        connection.cancel_safe()
        while result := pgconn.get_result():
            while result.status == ExecStatus.COPY_OUT and pgconn.get_copy_data(0)[0] > 0:
                pass
