"""Read the rows of a COPY into run buffers, for large tables.

libpq returns one message per row, and these calls cost more than everything else together. The response to a
COPY is therefore read from the connection's socket, many rows per call, and decoded where it lies. libpq does
not see the response, so the connection cannot be used afterwards. If the socket uses TLS or GSSAPI, or the
connection is used afterwards, the rows are received by libpq, at half the speed.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from os import dup
from typing import Protocol

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import Composed

from lakehouse.source.copy.answer import CopyResponse
from lakehouse.source.copy.decode import RunBuffer
from lakehouse.source.copy.loop import HEADER_BYTES
from lakehouse.source.copy.memory import RUN_BUFFER_BYTES, SLACK_BYTES, Bytes, words_of
from lakehouse.source.copy.receive import incomplete_copy, receive_rows, send_copy
from lakehouse.table.columns import SourceColumn
from ridelake.errors import CannotConnect

# Small enough for the processor's cache.
BUFFER_BYTES = 1 << 18
READY = b"Z\0\0\0\5"  # the start of ReadyForQuery
# Rows of libpq that are decoded at a time.
BATCH_ROWS = 32_768
BATCH_BYTES = 4 << 20
CANCEL_SECONDS = 5.0


class CopyReader(Protocol):
    """Reads the rows of one COPY. `ended`: all of them were read."""

    @property
    def ended(self) -> bool: ...

    def fill(self, run: RunBuffer) -> None:
        """Read rows until the run is full or the COPY ends. Raises RidelakeError or psycopg.Error."""

    def cancel(self) -> None:
        """End the COPY; `fill`, in another thread, then raises an error."""

    def close(self) -> None: ...


def is_plain(connection: Connection[TupleRow]) -> bool:
    """Whether the socket carries the protocol unencrypted."""
    return not (connection.pgconn.ssl_in_use or connection.pgconn.used_gssapi)


def socket_of(connection: Connection[TupleRow]) -> socket.socket:
    """A duplicate of the connection's socket, which must be closed too."""
    return socket.socket(fileno=dup(connection.pgconn.socket))


def message_bytes(begin: Bytes) -> int:
    """The length of the message that begins with these bytes, up to 1 GiB; 0 if its header is incomplete."""
    if len(begin) < HEADER_BYTES:
        return 0
    return 1 + int.from_bytes(begin[1:HEADER_BYTES].tobytes(), "big")


class SocketReader:
    """Reads from the connection's socket; `pause` is called before each read. Closes both."""

    def __init__(self, connection: Connection[TupleRow], copy: Composed, pause: Callable[[], None]) -> None:
        self._connection, self._copy, self._pause = connection, copy, pause
        self._socket = socket_of(connection)
        self._answer = CopyResponse()
        self._buffer, self._used = np.empty(BUFFER_BYTES + SLACK_BYTES, np.uint8), 0
        self._began = self._lost = False

    @property
    def ended(self) -> bool:
        return self._answer.ended

    def fill(self, run: RunBuffer) -> None:
        if not self._began:
            self._began = True
            send_copy(self._connection, self._copy)
            self._socket.setblocking(True)
        while True:
            self._keep(self._answer.read(self._buffer, self._used, run))
            if run.is_full or self._answer.ended:
                break
            if self._lost:
                raise CannotConnect("lost the connection to Postgres during a COPY: run the command again")
            self._pause()
            self._receive()
        if self._answer.ended and not self._answer.complete:
            raise incomplete_copy()

    def _keep(self, begin: int) -> None:
        """Move the bytes from `begin` to the front, and make room for the message that they begin."""
        rest = self._buffer[begin : self._used]
        size = max(BUFFER_BYTES, message_bytes(rest)) + SLACK_BYTES
        if size > len(self._buffer):
            buffer = np.empty(size, np.uint8)
            buffer[: len(rest)] = rest
            self._buffer = buffer
        else:
            self._buffer[: len(rest)] = rest.copy() if begin < len(rest) else rest
        self._used = len(rest)

    def _receive(self) -> None:
        """Receive until the buffer is full or the response seems to end: the server sends 8 kB at a time,
        which are too few to decode at once."""
        view = memoryview(self._buffer)[: len(self._buffer) - SLACK_BYTES]  # type: ignore[arg-type]
        used, room, receive = self._used, len(view), self._socket.recv_into
        while used < room:
            try:
                count = receive(view[used:])
            except OSError:  # also a timeout, or no route to the host
                count = 0
            self._lost = not count  # its last message may be an error
            used += count
            if self._lost:
                break
            if view[used - 6 : used - 1] == READY:  # may be data: CopyResponse decides
                break
        self._used = used

    def cancel(self) -> None:
        with suppress(psycopg.Error):  # the connection is lost, so the query has ended
            self._connection.cancel_safe(timeout=CANCEL_SECONDS)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()
        self._connection.close()


class LibpqReader:
    """Reads by libpq. The connection stays usable."""

    def __init__(self, connection: Connection[TupleRow], copy: Composed, pause: Callable[[], None]) -> None:
        self._connection = connection
        self._rows = receive_rows(connection, copy, BATCH_ROWS, BATCH_BYTES, pause)
        self._buffer, self._at = framed([]), 0
        self.ended = False

    def fill(self, run: RunBuffer) -> None:
        while not run.is_full:
            stop = len(self._buffer) - SLACK_BYTES
            if self._at < stop:
                _, self._at = run.feed(words_of(self._buffer), self._at, stop)
                continue
            rows = next(self._rows, None)
            if rows is None:
                self.ended = True
                return
            self._buffer, self._at = framed(rows), 0

    def cancel(self) -> None:
        with suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=CANCEL_SECONDS)

    def close(self) -> None:
        self._rows.close()


def framed(rows: Sequence[bytes]) -> Bytes:
    """The rows as messages, as the socket has them."""
    messages = bytearray().join(b"d%b%b" % ((len(row) + 4).to_bytes(4, "big"), row) for row in rows)
    messages += bytes(SLACK_BYTES)
    return np.frombuffer(messages, np.uint8)  # it can be written, as the buffer of a socket: one compilation


def decode_rows(rows: Sequence[bytes], columns: Sequence[SourceColumn]) -> Iterator[pa.Table]:
    """The rows as tables, in their order."""
    run = RunBuffer(columns, len(rows), RUN_BUFFER_BYTES)
    buffer, at = framed(rows), 0
    while at < len(buffer) - SLACK_BYTES:
        _, at = run.feed(words_of(buffer), at, len(buffer) - SLACK_BYTES)
        yield from run.pieces()
        run.clear()
