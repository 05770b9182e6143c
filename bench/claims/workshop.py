"""Where claims about tables make their own: a schema beside the store's, which is dropped afterwards, so that
no other benchmark sees anything of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.store import Store


def read_sql(name: str) -> bytes:
    """A .sql file of this package, as psycopg takes it."""
    return read_text(f"{name}.sql").encode()


def read_text(name: str) -> str:
    """A file of this package, in whatever language it is."""
    return files("bench").joinpath("claims", name).read_text("utf-8")


@contextmanager
def workshop(store: Store) -> Iterator[Connection[TupleRow]]:
    """A connection that makes its tables in a schema of their own and finds the store's behind them."""
    with store.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS workshop CASCADE")  # of a run that was killed
        connection.execute("CREATE SCHEMA workshop")
        connection.execute("SET search_path = workshop, ridelake")
        try:
            yield connection
        finally:
            if not connection.closed:
                connection.execute("DROP SCHEMA workshop CASCADE")
