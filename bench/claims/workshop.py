"""Where claims about tables make their own: a schema beside the store's, which is dropped afterwards, so that
no other benchmark sees anything of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.store import Store


def read_sql(name: str) -> bytes:
    """A .sql file of this package."""
    return files("bench").joinpath("claims", f"{name}.sql").read_bytes()


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
