"""Read tables from Postgres into Arrow, almost as fast as the server sends them.

    export   a complete table at an exported snapshot, over one connection per worker, in sorted runs,
             each of which becomes a file
    fetch    the result of a query, on the caller's connection and in its transaction

The server does not sort: it sends the rows in heap order, and each run is sorted here.

    query.py     the COPY statement of a table, complete or by ranges of heap pages
    answer.py    the server's response to a COPY
    raw.py       receives the rows of a large table from the socket, many at a time
    loop.py      finds and decodes rows in one compiled loop; decode.py calls it, memory.py has its buffers
    receive.py   receives the rows of a small result by libpq; values.py decodes them
    sorting.py   sorts a small result
    workers.py   the worker threads; channel.py is the queue between two threads
    throttle.py  slows a copy down beside a live store; pace.py decides by how much
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pyarrow as pa
from psycopg import Connection, IsolationLevel, errors
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier, Literal

from lakehouse.source.copy.memory import RUN_BUFFER_BYTES
from lakehouse.source.copy.query import copy_query, copy_table, lock_table, split_pages
from lakehouse.source.copy.receive import CopyAborted, no_pause, receive_rows, server_error
from lakehouse.source.copy.sorting import sort_run
from lakehouse.source.copy.throttle import NO_THROTTLE, Throttle
from lakehouse.source.copy.values import TOO_MANY_DIGITS, decode_values
from lakehouse.source.tables import TableSource
from lakehouse.table.columns import (
    NULL_INSTEAD,
    RowsNotComputed,
    SourceColumn,
    UnsupportedValue,
    arrow_schema,
)
from lakehouse.table.epoch import quote_identifier
from lakehouse.table.layout import RUN_ROWS
from oltp.store import Store, transaction
from ridelake.errors import RidelakeError, first_line
from ridelake.queries import load_queries

if TYPE_CHECKING:
    from lakehouse.source.copy.raw import CopyReader

QUERIES = load_queries("lakehouse.source.copy")

# A table of this size, or a result of this many rows, is decoded by the compiled loop. A smaller one is
# decoded value by value, unless the process has loaded the loop.
COMPILED_BYTES = 16 << 20
FETCH_ROWS = 40_000
FETCH_BYTES = 32 << 20

# A worker may wait for a session that rebuilds an index, and that session for a lock of the coordinator.
# Postgres does not detect this deadlock, because the coordinator waits in this process.
LIMIT_LOCK_WAIT = b"SET LOCAL lock_timeout = '30s'"

__all__ = ["RUN_ROWS", "add_row_key_to_errors", "computed_row_errors", "export", "export_snapshot", "fetch"]


@dataclass(frozen=True, slots=True)
class WorkerCopy:
    """The COPY of one worker and its connection. `is_lent`: the caller uses the connection afterwards."""

    connection: Connection[TupleRow]
    copy: Composed
    is_lent: bool = False

    def reader(self, pause: Callable[[], None]) -> "CopyReader":
        from lakehouse.source.copy.raw import LibpqReader, SocketReader, is_plain

        by_socket = is_plain(self.connection) and not self.is_lent
        return (SocketReader if by_socket else LibpqReader)(self.connection, self.copy, pause)


def export(
    store: Store,
    snapshot: str | None,
    table: TableSource,
    write_run: Callable[[Iterator[pa.Table]], None],
    *,
    workers: int,
    on_rows: Callable[[int], None],
    coordinator: Connection[TupleRow] | None = None,
    throttle: Throttle = NO_THROTTLE,
) -> None:
    """Read all rows of the table at the exported snapshot, in sorted runs of at most RUN_ROWS rows and about
    RUN_BUFFER_BYTES bytes. Call `write_run` for each, from several threads, with the run in pieces. A table
    without rows has no run.

    The transaction that exported `snapshot` must stay open; None: export one now. `coordinator`: its
    connection, if it has locked the table. If another session waits for an exclusive lock on the table, a
    worker would wait for that session, and the session for the coordinator. The rows are then read over the
    coordinator's connection only.

    Raises psycopg.Error, RidelakeError, or the error of `write_run`; all threads have ended then."""
    with ExitStack() as stack:
        throttle.wait_for_probes()
        if snapshot is None:
            coordinator = _opened(stack, store, throttle)
            coordinator.execute(lock_table(table))
            snapshot = export_snapshot(coordinator)
        copies = _copies(stack, store, snapshot, table, workers, coordinator, throttle)
        for one in copies:
            throttle.limit(one.connection)
        if _bytes(copies[0].connection, table) >= COMPILED_BYTES or is_loaded():
            from lakehouse.source.copy.workers import TableExport, run_workers

            readers = [one.reader(throttle.pause) for one in copies]
            run_workers(TableExport(table, RUN_ROWS, write_run, on_rows, readers, throttle))
        else:
            _export_small(copies[0], table, write_run, on_rows, throttle.pause)


def _export_small(
    copy: WorkerCopy,
    table: TableSource,
    write_run: Callable[[Iterator[pa.Table]], None],
    on_rows: Callable[[int], None],
    pause: Callable[[], None],
) -> None:
    with closing(receive_rows(copy.connection, copy.copy, RUN_ROWS, RUN_BUFFER_BYTES, pause)) as runs:
        for rows in runs:
            write_run(iter([sort_run(decode_values(rows, table.columns), table.order_by)]))
            on_rows(len(rows))


def fetch(
    connection: Connection[TupleRow],
    query: Composed,
    columns: Sequence[SourceColumn],
    pause: Callable[[], None] = no_pause,
) -> pa.Table:
    """The complete result of a query, in the connection's transaction: the given columns, in the order of its
    rows. `pause` is called before each read. The connection stays usable, even if this is interrupted.

    Raises psycopg.Error, RidelakeError, or the error of `pause`."""
    tables = [arrow_schema(columns).empty_table()]
    failure: UnsupportedValue | None = None
    copy = copy_query(query, columns)
    with closing(receive_rows(connection, copy, FETCH_ROWS, FETCH_BYTES, pause)) as received:
        for rows in received:
            try:
                tables += _decoded(rows, columns)
            except UnsupportedValue as error:  # read to the end: a cancelled COPY would abort the transaction
                failure = failure or error
                tables.clear()
    if failure is not None:
        raise failure
    return pa.concat_tables(tables).combine_chunks()


# Begins of SQLSTATEs that do not concern one table: rollback, resources, operator intervention, system error.
OF_THE_SERVER = ("40", "53", "57", "58")
# Those of a table with rows of its own, in addition: no privilege, it was dropped, it is locked.
OF_A_TABLE = ("42501", "42P01", "55P03")


@contextmanager
def computed_row_errors(
    connection: Connection[TupleRow], table: TableSource, *, keep_locks: bool = False
) -> Iterator[None]:
    """Translate an error of the server about the rows of one table: of the query of a view, a virtual column,
    a foreign server. Raises RowsNotComputed; the connection's transaction can then be continued, as after an
    UnsupportedValue. Other errors are raised as psycopg.Error.

    A function of a view may change settings of the session, which determine the text of other tables. They
    are restored after a view, with the locks of the block, unless `keep_locks`."""
    connection.execute("SAVEPOINT one_table")
    try:
        yield
        if table.kind == "v" and not keep_locks:
            connection.execute("ROLLBACK TO one_table")
        connection.execute("RELEASE one_table")  # can fail for a foreign table
    except UnsupportedValue:
        connection.execute("ROLLBACK TO one_table; RELEASE one_table")
        raise
    except (psycopg.DatabaseError, CopyAborted) as error:
        state = error.sqlstate or ""
        others = OF_THE_SERVER if table.reads_others else OF_THE_SERVER + OF_A_TABLE
        if not state or state.startswith(others):
            if isinstance(error, CopyAborted):
                raise server_error(state, error.why) from error
            raise
        connection.execute("ROLLBACK TO one_table; RELEASE one_table")
        why = error.why if isinstance(error, CopyAborted) else first_line(error)
        if state == "55P03":
            why = "another session has locked it, or what it reads"
        raise RowsNotComputed(table.qualified, why, state) from error


@contextmanager
def add_row_key_to_errors(connection: Connection[TupleRow], table: TableSource) -> Iterator[None]:
    """Add the table and the row's key to an UnsupportedValue. `connection` is in the transaction of the
    snapshot that is read."""
    try:
        yield
    except UnsupportedValue as error:
        if connection.info.transaction_status != TransactionStatus.INTRANS:
            raise
        (column,) = (column for column in table.columns if column.name == error.column)
        value = column.sent(Identifier(column.name))
        query = SQL(QUERIES["row_not_held"]).format(
            key=SQL(", ").join(SQL("{}::text").format(Identifier(name)) for name in table.key),
            table=table.rows,
            column=value,
            is_held=column.is_held(value) or SQL("true"),
        )
        keys, text = connection.execute(query).fetchone() or ((), "a value")
        key = ", ".join(f"{name} {value}" for name, value in zip(table.key, keys, strict=False))
        is_shown = column.parts or error.what == TOO_MANY_DIGITS
        raise UnsupportedValue(
            f"{table.qualified}.{quote_identifier(error.column)}",
            f"{text} ({error.what})" if is_shown else error.what,
            f" in the row with {key}" if key else "",
            in_key=error.column in table.key,
            instead=_instead(column, error.what),
        ) from error


def _instead(column: SourceColumn, what: str) -> str:
    """What can be done about a value that the lake cannot store, other than to change it."""
    if column.parts:
        return "store the column as text with --nested text"
    return "choose another --numeric" if what == TOO_MANY_DIGITS else NULL_INSTEAD


def _decoded(rows: Sequence[bytes], columns: Sequence[SourceColumn]) -> Iterable[pa.Table]:
    if len(rows) < FETCH_ROWS and not is_loaded():
        return [decode_values(rows, columns)]
    from lakehouse.source.copy.raw import decode_rows

    return decode_rows(rows, columns)


def is_loaded() -> bool:
    """Whether this process has loaded the compiled loop."""
    return "lakehouse.source.copy.loop" in sys.modules


def _copies(
    stack: ExitStack,
    store: Store,
    snapshot: str,
    table: TableSource,
    workers: int,
    coordinator: Connection[TupleRow] | None,
    throttle: Throttle,
) -> list[WorkerCopy]:
    """A connection for each worker, at the snapshot. None of them waits for a lock. What LOCK TABLE does not
    accept is read over the coordinator's connection."""
    if not table.can_be_locked and coordinator is not None:
        return [WorkerCopy(coordinator, copy_table(table, None), is_lent=True)]
    connections: list[Connection[TupleRow]] = []
    try:
        connections.append(_importing(stack, store, snapshot, table, throttle))
        ranges = split_pages(_pages(connections[0], table), workers)
        connections.extend(_importing(stack, store, snapshot, table, throttle) for _ in ranges[1:])
    except errors.LockNotAvailable as error:
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


def _opened(stack: ExitStack, store: Store, throttle: Throttle) -> Connection[TupleRow]:
    connection = stack.enter_context(store.connect())
    throttle.add_own(connection)
    return stack.enter_context(transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True))


def _importing(
    stack: ExitStack, store: Store, snapshot: str, table: TableSource, throttle: Throttle
) -> Connection[TupleRow]:
    """A connection at the snapshot. It locks the table first, because other statements on it would wait."""
    connection = _opened(stack, store, throttle)
    connection.execute(
        SQL("SET TRANSACTION SNAPSHOT {}").format(Literal(snapshot))
    )  # it does not accept parameters
    connection.execute(LIMIT_LOCK_WAIT)
    try:
        connection.execute(lock_table(table, or_fail=True))
    except errors.LockNotAvailable:
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


def _bytes(connection: Connection[TupleRow], table: TableSource) -> int:
    """The size of the table with its long values. COMPILED_BYTES for a view, which can have any size."""
    found = connection.execute(QUERIES["bytes"], {"schema": table.schema, "name": table.name}).fetchone()
    return int(found[0]) if found else COMPILED_BYTES
