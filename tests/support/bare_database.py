"""A database without the ride store, like that of a user who adds their own tables to a lake."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.sql import SQL, Identifier

from oltp.cluster.server import Cluster
from oltp.store import Store, open_database

_numbers = itertools.count()


@contextmanager
def bare_database(cluster: Cluster) -> Iterator[Store]:
    """A new database, which is dropped at the end of the block."""
    name = f"bare_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            yield open_database(cluster.conninfo(name), install=False)
        finally:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def run(store: Store, *statements: str) -> None:
    """Execute statements, each in its own transaction."""
    with store.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def rows_of(store: Store, query: str) -> list[tuple]:
    with store.connect() as connection:
        return connection.execute(query.encode()).fetchall()
