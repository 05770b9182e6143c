"""Worker threads that receive, decode and write concurrently; an error stops all of them.

    server ──> receive ──chunks──> decode ──runs──> sort, write        one such pipeline per worker

The channels between two threads hold a few chunks or one run, so memory use does not depend on the size of
the table. The first error, or Ctrl-C, closes every channel, cancels every query and ends every thread.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

import psycopg
import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import Composed

from lakehouse.source.copy.channel import Channel, ChannelClosed
from lakehouse.source.copy.decode import Decoder
from lakehouse.source.copy.receive import CopyChunk, is_plain, receive_by_libpq, receive_raw, socket_of
from lakehouse.source.copy.sorting import sort_run
from lakehouse.source.tables import TableSource
from lakehouse.table.layout import RUN_BYTES

CHUNKS_WAITING = 4
CANCEL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class WorkerCopy:
    """The COPY of one worker and its connection. `is_lent`: the caller uses the connection afterwards."""

    connection: Connection[TupleRow]
    copy: Composed
    is_lent: bool = False


@dataclass(slots=True)
class TableExport:
    """The export of one table, shared by all workers."""

    table: TableSource
    rows_max: int
    write: Callable[[pa.Table], None]
    on_rows: Callable[[int], None]
    error: BaseException | None = None
    ended: int = 0
    progress: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    lock: threading.Lock = field(default_factory=threading.Lock)
    on_failure: list[Callable[[], None]] = field(default_factory=list)

    def fail(self, error: BaseException) -> None:
        """Stop all threads. The first error is the one that is raised."""
        with self.lock:
            if self.error is not None:
                return
            self.error = error
        for end in self.on_failure:
            end()

    def count(self, rows: int) -> None:
        with self.lock:
            self.on_rows(rows)


def run_workers(run: TableExport, readings: Sequence[WorkerCopy]) -> None:
    """Run a worker for each of `readings`. Raises the first error of a thread."""
    threads = [thread for reading in readings for thread in _pipeline(run, reading)]
    try:
        for thread in threads:
            thread.start()
        while run.ended < len(threads):
            run.progress.acquire()  # not `join`: if interrupted, Python 3.11 marks the thread as ended
    except BaseException as error:  # Ctrl-C
        run.fail(error)
        while run.ended < sum(thread.ident is not None for thread in threads):
            run.progress.acquire()
        raise
    if run.error is not None:
        raise run.error


def _pipeline(run: TableExport, reading: WorkerCopy) -> list[threading.Thread]:
    chunks: Channel[CopyChunk] = Channel(CHUNKS_WAITING)
    runs: Channel[pa.Table] = Channel(1)
    is_raw = is_plain(reading.connection) and not reading.is_lent
    server = socket_of(reading.connection) if is_raw else None
    run.on_failure += [chunks.close, runs.close, lambda: _cancel(reading.connection, server)]
    works: list[Callable[[], None]] = [
        lambda: _receive(reading, server, chunks),
        lambda: _decode(run, chunks, runs),
        lambda: _write(run, runs),
    ]
    return [threading.Thread(target=_guarded, args=(run, work)) for work in works]


def _guarded(run: TableExport, work: Callable[[], None]) -> None:
    try:
        work()
    except ChannelClosed:
        pass
    except BaseException as error:
        run.fail(error)
    finally:
        with run.lock:
            run.ended += 1
        run.progress.release()


def _cancel(connection: Connection[TupleRow], server: socket.socket | None) -> None:
    """Cancel the COPY; `receive` then gets an error or the end of the stream."""
    with suppress(psycopg.Error):  # the connection is lost, so the query has ended
        connection.cancel_safe(timeout=CANCEL_SECONDS)
    if server is not None:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


def _receive(reading: WorkerCopy, server: socket.socket | None, chunks: Channel[CopyChunk]) -> None:
    if server is not None:
        received = receive_raw(reading.connection, server, reading.copy)
    else:
        received = receive_by_libpq(reading.connection, reading.copy)
    with closing(received):
        for chunk in received:
            chunks.put(chunk)
    chunks.finish()


def _decode(run: TableExport, chunks: Channel[CopyChunk], runs: Channel[pa.Table]) -> None:
    decoder = Decoder(run.table.columns)
    for table in _runs(decoder, chunks, run.rows_max, RUN_BYTES):
        runs.put(table)
    runs.finish()


def _runs(decoder: Decoder, chunks: Channel[CopyChunk], rows_max: int, bytes_max: int) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for chunk in chunks:
        batch = decoder.decode(chunk.buffer, chunk.begins, chunk.ends)
        while rows + len(batch) >= rows_max:
            taken = rows_max - rows
            yield pa.Table.from_batches([*waiting, batch.slice(0, taken)], decoder.schema)
            batch, waiting, rows, size = batch.slice(taken), [], 0, 0
        if len(batch):
            waiting.append(batch)
            rows += len(batch)
            size += batch.nbytes
        if size >= bytes_max:
            yield pa.Table.from_batches(waiting, decoder.schema)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting, decoder.schema)


def _write(run: TableExport, runs: Channel[pa.Table]) -> None:
    for table in runs:
        run.write(sort_run(table, run.table.order_by))
        run.count(len(table))
