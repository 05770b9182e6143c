"""Single rows, each committed, into copies of the table: in its Postgres, and in a file of DuckDB."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import duckdb
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier, Placeholder

from bench.own.subject import Subject
from ridelake.errors import UsageError

SCHEMA = "ridelake_bench"
Row = Sequence[str | None]


def some_rows(subject: Subject, count: int) -> list[Row]:
    """As text, which either side reads as its own type."""
    columns = [SQL("{}::text").format(Identifier(column.name)) for column in subject.columns]
    query = SQL("SELECT {} FROM {} LIMIT {}").format(SQL(", ").join(columns), subject.identifier, count)
    with subject.store.connect() as connection:
        return list(connection.execute(query).fetchall())


@contextmanager
def postgres_copy(subject: Subject) -> Iterator[Connection[TupleRow]]:
    """An empty table `copy` with the same columns, keys and indexes, in a schema of its own."""
    schema = Identifier(SCHEMA)
    with subject.store.connect() as connection:
        found = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (SCHEMA,)).fetchone()
        if found is not None:
            raise UsageError(f"there is a schema {SCHEMA} in that database: if a benchmark left it, drop it")
        connection.execute(SQL("CREATE SCHEMA {}").format(schema))
        try:
            like = SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)")
            connection.execute(like.format(Identifier(SCHEMA, "copy"), subject.identifier))
            yield connection
        finally:
            connection.execute(SQL("DROP SCHEMA {} CASCADE").format(schema))


def insert_into_postgres(
    connection: Connection[TupleRow], subject: Subject, rows: Sequence[Row]
) -> tuple[list[float], int]:
    """The seconds of each row until it is durable, and how many rows there are then."""
    names = SQL(", ").join(Identifier(column.name) for column in subject.columns)
    values = SQL(", ").join([Placeholder()] * len(subject.columns))
    copy = Identifier(SCHEMA, "copy")
    insert = SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(copy, names, values)
    seconds = []
    for row in rows:
        begin = perf_counter()
        connection.execute(insert, row)
        seconds.append(perf_counter() - begin)
    found = connection.execute(SQL("SELECT count(*) FROM {}").format(copy)).fetchone()
    return seconds, found[0] if found else 0


def insert_into_duckdb(path: Path, subject: Subject, rows: Sequence[Row]) -> tuple[list[float], int]:
    """The same of a database of one file."""
    with duckdb.connect(str(path)) as database:
        database.read_parquet(subject.state.locations).limit(0).create("copy")
        insert = f"INSERT INTO copy VALUES ({', '.join(['?'] * len(subject.columns))})"  # noqa: S608
        seconds = []
        for row in rows:
            begin = perf_counter()
            database.execute(insert, row)
            seconds.append(perf_counter() - begin)
        found = database.execute("SELECT count(*) FROM copy").fetchone()
        return seconds, found[0] if found else 0
