"""Read tables from Postgres into Arrow, almost as fast as the server sends them.

    export   a complete table at an exported snapshot, over one connection per worker, in sorted runs,
             each of which becomes a file
    fetch    the result of a query, on the caller's connection and in its transaction

The server does not sort: it sends the rows in heap order, and each run is sorted here.

    query.py     the COPY statement of a table, complete or by ranges of heap pages
    answer.py    the server's response to a COPY
    receive.py   receives the rows in buffers; framing.py finds them there
    decode.py    decodes COPY BINARY into Arrow; values.py decodes one column
    sorting.py   sorts a run
    workers.py   the worker threads; channel.py is the queue between two threads
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pyarrow as pa
from psycopg import Connection, IsolationLevel
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier, Literal

from lakehouse.source.copy.decode import Decoder
from lakehouse.source.copy.query import copy_query, copy_table, lock_table, name_of, split_pages
from lakehouse.source.copy.receive import receive_by_libpq
from lakehouse.source.copy.workers import TableExport, WorkerCopy, run_workers
from lakehouse.source.tables import TableSource
from lakehouse.table.columns import SourceColumn, UnsupportedValue
from lakehouse.table.epoch import quote_identifier
from lakehouse.table.layout import RUN_ROWS
from oltp.store import Store, transaction
from ridelake.errors import RidelakeError
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.source.copy")

__all__ = ["RUN_ROWS", "add_row_key_to_errors", "export", "export_snapshot", "fetch"]


def export(
    store: Store,
    snapshot: str | None,
    table: TableSource,
    write_run: Callable[[pa.Table], None],
    *,
    workers: int,
    on_rows: Callable[[int], None],
    coordinator: Connection[TupleRow] | None = None,
) -> None:
    """Read all rows of the table at the exported snapshot, in sorted runs of at most RUN_ROWS rows, and call
    `write_run` for each, from worker threads. A table without rows has no run.

    The transaction that exported `snapshot` must stay open; None: export one now. `coordinator`: its
    connection, if it has locked the table. If another session waits for an exclusive lock on the table, a
    worker would wait for that session, and the session for the coordinator. The rows are then read over the
    coordinator's connection only.

    Raises psycopg.Error, RidelakeError, or the error of `write_run`; all threads have ended then."""
    run = TableExport(table, RUN_ROWS, write_run, on_rows)
    with ExitStack() as stack:
        if snapshot is None:
            coordinator = _opened(stack, store)
            coordinator.execute(lock_table(table))
            snapshot = export_snapshot(coordinator)
        run_workers(run, _readings(stack, store, snapshot, table, workers, coordinator))


def fetch(connection: Connection[TupleRow], query: Composed, columns: Sequence[SourceColumn]) -> pa.Table:
    """The complete result of a small query, in the connection's transaction: the given columns, in the order
    of its rows. The connection stays usable, even if this is interrupted.

    Raises psycopg.Error, or RidelakeError."""
    decoder = Decoder(columns)
    batches: list[pa.RecordBatch] = []
    failure: UnsupportedValue | None = None
    with closing(receive_by_libpq(connection, copy_query(query, columns))) as chunks:
        for chunk in chunks:
            try:
                batches.append(decoder.decode(chunk.buffer, chunk.begins, chunk.ends))
            except UnsupportedValue as error:  # read to the end: a cancelled COPY would abort the transaction
                failure = failure or error
                batches.clear()
    if failure is not None:
        raise failure
    return pa.Table.from_batches(batches, decoder.schema).combine_chunks()


@contextmanager
def add_row_key_to_errors(connection: Connection[TupleRow], table: TableSource) -> Iterator[None]:
    """Add the table and the row's key to an UnsupportedValue. `connection` is in the transaction of the
    snapshot that is read."""
    try:
        yield
    except UnsupportedValue as error:
        if connection.info.transaction_status != TransactionStatus.INTRANS:
            raise
        template = SQL(QUERIES["row_not_held"])
        found = connection.execute(
            template.format(
                key=SQL(", ").join(SQL("{}::text").format(Identifier(name)) for name in table.key),
                table=name_of(table),
                column=Identifier(error.column),
            )
        ).fetchone()
        key = ", ".join(f"{name} {value}" for name, value in zip(table.key, found or (), strict=False))
        raise UnsupportedValue(
            f"{table.qualified}.{quote_identifier(error.column)}",
            error.what,
            f" in the row with {key}" if key else "",
        ) from error


def _readings(
    stack: ExitStack,
    store: Store,
    snapshot: str,
    table: TableSource,
    workers: int,
    coordinator: Connection[TupleRow] | None,
) -> list[WorkerCopy]:
    """A connection for each worker, at the snapshot. None of them waits for a lock."""
    connections: list[Connection[TupleRow]] = []
    try:
        connections.append(_importing(stack, store, snapshot, table))
        ranges = split_pages(_pages(connections[0], table), workers)
        connections.extend(_importing(stack, store, snapshot, table) for _ in ranges[1:])
    except psycopg.errors.LockNotAvailable as error:
        for connection in connections:
            connection.close()  # releases its locks
        if coordinator is None:
            raise RidelakeError(
                f"cannot read table {table.name}: another session waits to truncate or alter it; "
                "run the command again"
            ) from error
        return [WorkerCopy(coordinator, copy_table(table, None), is_lent=True)]
    return [
        WorkerCopy(connection, copy_table(table, pages))
        for connection, pages in zip(connections, ranges, strict=True)
    ]


def _opened(stack: ExitStack, store: Store) -> Connection[TupleRow]:
    connection = stack.enter_context(store.connect())
    return stack.enter_context(transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True))


def _importing(stack: ExitStack, store: Store, snapshot: str, table: TableSource) -> Connection[TupleRow]:
    """A connection at the snapshot. It locks the table first, because other statements on it would wait."""
    connection = _opened(stack, store)
    connection.execute(
        SQL("SET TRANSACTION SNAPSHOT {}").format(Literal(snapshot))
    )  # it does not accept parameters
    try:
        connection.execute(lock_table(table, or_fail=True))
    except psycopg.errors.LockNotAvailable:
        connection.close()
        raise
    return connection


def export_snapshot(connection: Connection[TupleRow]) -> str:
    """The name by which other connections can import this transaction's snapshot, until it ends."""
    found = connection.execute("SELECT pg_export_snapshot()").fetchone()
    assert found is not None
    return str(found[0])


def _pages(connection: Connection[TupleRow], table: TableSource) -> int:
    """The current number of pages of the table; statistics may be outdated. 0 for a view."""
    query = QUERIES["pages"]
    found = connection.execute(query, {"schema": table.schema, "name": table.name}).fetchone()
    return int(found[0]) if found else 0
