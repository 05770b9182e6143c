"""Single inserts, each committed, into copies of the table in its Postgres and in a DuckDB file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import duckdb
import pyarrow as pa
from psycopg import Connection, RawCursor
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from bench.own.subject import Subject
from lakehouse.columns import Column
from ridelake.errors import UsageError

SCHEMA = "ridelake_bench"
Row = Sequence[str | None]

# Conversion of values from Postgres to DuckDB as text, for types whose text differs: the expression in
# Postgres and the one in DuckDB. Needed for bytes and for dates before year 1.
CONVERSIONS = (
    (pa.types.is_binary, SQL("encode({}, 'hex')"), "unhex(?)"),
    (pa.types.is_date, SQL("({} - DATE '1970-01-01')::text"), "DATE '1970-01-01' + ?::INTEGER"),
    (
        lambda arrow: pa.types.is_timestamp(arrow) and arrow.tz is None,
        SQL("(extract(epoch FROM {}) * 1000000)::bigint::text"),
        "make_timestamp(?::BIGINT)",
    ),
    (
        pa.types.is_timestamp,
        SQL("(extract(epoch FROM {}) * 1000000)::bigint::text"),
        "make_timestamptz(?::BIGINT)",
    ),
    (lambda arrow: True, SQL("{}::text"), "?"),
)


def inserted_columns(subject: Subject) -> list[Column]:
    return [column for column in subject.columns if column.name not in subject.generated]


def some_rows(subject: Subject, count: int) -> list[tuple[Row, Row]]:
    """Rows, each in the form for Postgres and in that for DuckDB. Rows of child tables are excluded, because
    their keys may repeat; rows of partitions are included."""
    columns = inserted_columns(subject)
    names = [Identifier(column.name) for column in columns]
    values = [SQL("{}::text").format(name) for name in names]
    values += [_conversion(column)[0].format(name) for column, name in zip(columns, names, strict=True)]
    only = SQL("") if subject.partitioned else SQL("ONLY ")
    query = SQL("SELECT {} FROM {}{} LIMIT {}").format(
        SQL(", ").join(values), only, subject.identifier, count
    )
    with subject.store.connect() as connection:
        rows = connection.execute(query).fetchall()
    return [(row[: len(columns)], row[len(columns) :]) for row in rows]


def _conversion(column: Column) -> tuple[SQL, str]:
    return next((ours, theirs) for fits, ours, theirs in CONVERSIONS if fits(column.arrow_type))


@contextmanager
def postgres_copy(subject: Subject) -> Iterator[Connection[TupleRow]]:
    """An empty table `copy` with the same columns, keys and indexes, in its own schema."""
    schema = Identifier(SCHEMA)
    with subject.store.connect() as connection:
        found = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (SCHEMA,)).fetchone()
        if found is not None:
            raise UsageError(f"schema {SCHEMA} already exists; drop it if an earlier benchmark left it")
        connection.execute(SQL("CREATE SCHEMA {}").format(schema))
        try:
            like = SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)")
            connection.execute(like.format(Identifier(SCHEMA, "copy"), subject.identifier))
            yield connection
        finally:
            connection.execute(SQL("DROP SCHEMA {} CASCADE").format(schema))


def insert_into_postgres(
    connection: Connection[TupleRow], subject: Subject, rows: Sequence[tuple[Row, Row]]
) -> tuple[list[float], int]:
    """The seconds of each durable insert, and the number of rows afterwards."""
    columns = inserted_columns(subject)
    names = SQL(", ").join(Identifier(column.name) for column in columns)
    values = SQL(", ").join(SQL(f"${number + 1}") for number in range(len(columns)))
    copy = Identifier(SCHEMA, "copy")
    insert = SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(copy, names, values)
    seconds = []
    with RawCursor(connection) as cursor:  # does not interpret % in a column name as a placeholder
        for row, _ in rows:
            begin = perf_counter()
            cursor.execute(insert, row)
            seconds.append(perf_counter() - begin)
    found = connection.execute(SQL("SELECT count(*) FROM {}").format(copy)).fetchone()
    return seconds, found[0] if found else 0


def insert_into_duckdb(
    path: Path, subject: Subject, rows: Sequence[tuple[Row, Row]]
) -> tuple[list[float], int]:
    """The same for a DuckDB file."""
    columns = inserted_columns(subject)
    with duckdb.connect(str(path)) as database:
        empty = database.read_parquet(subject.state.locations).limit(0).to_arrow_table()
        database.from_arrow(empty.select([column.name for column in columns])).create("copy")
        values = ", ".join(_conversion(column)[1] for column in columns)
        insert = f"INSERT INTO copy VALUES ({values})"  # noqa: S608
        seconds = []
        for _, row in rows:
            begin = perf_counter()
            database.execute(insert, row)
            seconds.append(perf_counter() - begin)
        found = database.execute("SELECT count(*) FROM copy").fetchone()
        return seconds, found[0] if found else 0
