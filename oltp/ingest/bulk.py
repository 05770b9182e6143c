"""COPY of frames into tables, blocks of sequence numbers, and statements from files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import polars as pl
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from ridelake.queries import load_queries

QUERIES = load_queries("oltp.ingest")

CHUNK_ROWS = 50_000  # of CSV in memory at a time


def copy_into(
    connection: Connection[TupleRow],
    table: str,
    rows: pl.DataFrame,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> None:
    """COPY a frame into the columns of the same names. Bytes are sent as hexadecimal text, nulls as empty
    fields. `on_rows` is called with the number of rows of each chunk."""
    if rows.is_empty():
        return
    binary = [name for name, dtype in rows.schema.items() if dtype == pl.Binary]
    columns = SQL(", ").join(map(Identifier, rows.columns))
    statement = SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(Identifier(table), columns)
    with connection.cursor().copy(statement) as copy:
        for chunk in rows.iter_slices(CHUNK_ROWS):
            copy.write(
                chunk.with_columns(pl.col(binary).bin.encode("hex")).write_csv(include_header=False).encode()
            )
            on_rows(chunk.height)


@contextmanager
def foreign_keys_disabled(connection: Connection[TupleRow]) -> Iterator[None]:
    """Disable the foreign-key triggers in this session, if the role may. They look up every key of every row,
    and make a bulk load three times slower. Only for rows whose parents were written or locked in the same
    transaction."""
    may = connection.execute("SELECT has_parameter_privilege('session_replication_role', 'SET')").fetchone()
    if may != (True,):
        yield
        return
    connection.execute("SET LOCAL session_replication_role = replica")
    yield
    connection.execute("SET LOCAL session_replication_role = origin")


def reserve_ids(connection: Connection[TupleRow], table: str, column: str, count: int) -> NDArray[np.int64]:
    """`count` numbers of the column's sequence, which no concurrent writer gets."""
    row = connection.execute(QUERIES["reserve"], (table, column, count)).fetchone()
    return np.array(row[0] if row and row[0] else [], dtype=np.int64)
