"""A scratch schema in the store's database for benchmarks that create tables. It is dropped afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.store import Store


def read_sql(name: str) -> bytes:
    """A .sql file of this package as bytes, for psycopg."""
    return read_text(f"{name}.sql").encode()


def read_text(name: str) -> str:
    """A text file of this package."""
    return files("bench").joinpath("claims", name).read_text("utf-8")


@contextmanager
def workshop(store: Store) -> Iterator[Connection[TupleRow]]:
    """A connection that creates tables in the scratch schema and also sees the tables of the store."""
    with store.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS workshop CASCADE")  # left by a killed run
        connection.execute("CREATE SCHEMA workshop")
        connection.execute("SET search_path = workshop, ridelake")
        try:
            yield connection
        finally:
            if not connection.closed:
                connection.execute("DROP SCHEMA workshop CASCADE")
