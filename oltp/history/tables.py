"""Bulk in and out of tables: COPY, blocks of sequence numbers, statements from files."""

from importlib.resources import files

import numpy as np
import polars as pl
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

CHUNK_ROWS = 50_000  # of CSV in memory at a time


def copy_into(connection: Connection[TupleRow], table: str, rows: pl.DataFrame) -> None:
    """COPY a frame into the columns of the same names. Bytes become hexadecimal, nulls nothing."""
    if rows.is_empty():
        return
    binary = [name for name, dtype in rows.schema.items() if dtype == pl.Binary]
    columns = SQL(", ").join(map(Identifier, rows.columns))
    statement = SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(Identifier(table), columns)
    with connection.cursor().copy(statement) as copy:
        for chunk in rows.iter_slices(CHUNK_ROWS):
            copy.write(chunk.with_columns(pl.col(binary).bin.encode("hex")).write_csv(include_header=False).encode())


def reserve(connection: Connection[TupleRow], table: str, column: str, count: int) -> NDArray[np.int64]:
    """`count` numbers of the sequence behind the column: ours, whoever else is writing."""
    row = connection.execute(statement("reserve.sql"), (table, column, count)).fetchone()
    return np.array(row[0] if row and row[0] else [], dtype=np.int64)


def statement(name: str) -> bytes:
    return files("oltp.history").joinpath(name).read_bytes()
