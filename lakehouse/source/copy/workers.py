"""Threads that read, decode, sort and write concurrently, and end together.

    server ──> reader ─┐                  ┌─> thread: fill its run; sort it, write it
    server ──> reader ─┴─ idle readers ───┴─> thread: fill its run; sort it, write it

A thread takes a reader, fills a run from it, gives the reader back, and writes the run. Meanwhile another
thread uses the reader; beside a live store only one thread works at a time. Each reader has a buffer, and
each thread that works a run, so memory use does not depend on the size of the table. The first error, or
Ctrl-C, cancels every query and ends every thread.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from lakehouse.source.copy.channel import Channel, ChannelClosed
from lakehouse.source.copy.decode import RunBuffer
from lakehouse.source.copy.memory import RUN_BUFFER_BYTES
from lakehouse.source.copy.raw import CopyReader
from lakehouse.source.copy.throttle import Throttle, lower_priority
from lakehouse.source.tables import TableSource

# With one reader, a run is written while the next one is read. With two, there is always one to read from
# or one to write.
THREADS_MIN = 2


@dataclass(slots=True)
class TableExport:
    """The export of one table, shared by all threads."""

    table: TableSource
    rows_max: int
    write: Callable[[Iterator[pa.Table]], None]
    on_rows: Callable[[int], None]
    readers: Sequence[CopyReader]
    throttle: Throttle
    idle: Channel[CopyReader] = field(init=False)
    unused_runs: list[RunBuffer] = field(default_factory=list)
    error: BaseException | None = None
    threads_ended: int = 0
    readers_ended: int = 0
    progress: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.idle = Channel(len(self.readers))
        for reader in self.readers:
            self.idle.put(reader)

    def fail(self, error: BaseException) -> None:
        """Stop all threads. The first error is the one that is raised."""
        with self.lock:
            if self.error is not None:
                return
            self.error = error
        self.idle.close()
        for reader in self.readers:
            reader.cancel()

    def give_back(self, reader: CopyReader) -> None:
        if not reader.ended:
            self.idle.put(reader)
            return
        with self.lock:
            self.readers_ended += 1
            last = self.readers_ended == len(self.readers)
        if last:
            self.idle.finish()

    def unused_run(self) -> RunBuffer:
        """The run that was used last, because its memory is in use already; a new one if all are in use."""
        with self.lock:
            if self.unused_runs:
                return self.unused_runs.pop()
        return RunBuffer(self.table.columns, self.rows_max, RUN_BUFFER_BYTES)

    def count(self, rows: int) -> None:
        with self.lock:
            self.on_rows(rows)


def run_workers(run: TableExport) -> None:
    """Read the complete table. Raises the first error of a thread."""
    number = max(len(run.readers), THREADS_MIN)
    threads = [threading.Thread(target=_guarded, args=(run,)) for _ in range(number)]
    try:
        for thread in threads:
            thread.start()
        while run.threads_ended < len(threads):
            run.progress.acquire()  # not `join`: if interrupted, Python 3.11 marks the thread as ended
    except BaseException as error:  # Ctrl-C
        run.fail(error)
        while run.threads_ended < sum(thread.ident is not None for thread in threads):
            run.progress.acquire()
        raise
    finally:
        for reader in run.readers:
            reader.close()
    if run.error is not None:
        raise run.error


def _guarded(run: TableExport) -> None:
    try:
        _work(run)
    except ChannelClosed:
        pass
    except BaseException as error:
        run.fail(error)
    finally:
        with run.lock:
            run.threads_ended += 1
        run.progress.release()


def _work(run: TableExport) -> None:
    if not run.throttle.fast:
        lower_priority()
    for reader in run.idle:
        with run.throttle.turn(lambda: run.error is not None):
            rows = run.unused_run()
            reader.fill(rows)
            run.give_back(reader)
            if rows.rows:
                run.write(run.throttle.between(rows.pieces(run.table.order_by)))
                run.count(rows.rows)
                rows.clear()
            run.unused_runs.append(rows)
