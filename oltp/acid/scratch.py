"""A database of our own on the user's server, gone when the work is over.

A run that was killed cannot clear up; the next one does it, by the name and because nobody is connected.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from secrets import token_hex

import psycopg
from psycopg import Connection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from oltp.connection import session_options
from oltp.embedded import open_cluster
from oltp.store import Store, ensure_database, not_a_dsn
from ridelake.errors import CannotConnect
from ridelake.settings import Settings

PREFIX = "ridelake_acid_"
SCHEMA = "ridelake_acid"

# Any number that nobody else takes: nobody clears up while somebody has made a database and is not in it yet.
MAKING_LOCK = 0x41_43_49_44

LEFT_BEHIND = """
    SELECT datname FROM pg_database AS d
    WHERE starts_with(datname, %s) AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.datid = d.oid)"""


@dataclass(frozen=True, slots=True)
class Scratch:
    """`dsn` leads to the database; `small` to the schema `ridelake_acid` in it."""

    dsn: str
    small: Store


@contextmanager
def open_scratch(settings: Settings) -> Iterator[Scratch]:
    """A scratch database on the server that the settings name; nothing else there is touched.

    Raises CannotConnect if there is no server, or one on which we may not make a database."""
    if settings.dsn is not None:
        with scratch_on(settings.dsn) as scratch:
            yield scratch
    else:
        with open_cluster(settings.home) as cluster, scratch_on(cluster.conninfo("postgres")) as scratch:
            yield scratch


@contextmanager
def scratch_on(server: str) -> Iterator[Scratch]:
    """A scratch database on the server that the connection string `server` leads to."""
    name = PREFIX + token_hex(4)
    try:
        with closing(_make(server, name)) as staying:
            theirs = conninfo_to_dict(server).get("options") or ""
            options = f"{theirs} {session_options(SCHEMA)}".strip()
            dsn = make_conninfo(server, dbname=name)
            small = Store(make_conninfo(dsn, options=options), staying.info.server_version)
            yield Scratch(dsn, small)
    finally:
        _drop(server, name)


def _make(server: str, name: str) -> Connection[TupleRow]:
    """The new database, and a connection to it that stays: it tells others that the database is in use."""
    try:
        conninfo_to_dict(server)
    except psycopg.ProgrammingError as error:
        raise not_a_dsn(server, error) from error
    with closing(Store(server, 0).connect()) as admin:
        admin.execute("SELECT pg_advisory_lock(%s)", (MAKING_LOCK,))
        for (left,) in admin.execute(LEFT_BEHIND, (PREFIX,)).fetchall():
            with suppress(errors.ObjectInUse, errors.InsufficientPrivilege, errors.InvalidCatalogName):
                admin.execute(SQL("DROP DATABASE {}").format(Identifier(left)))
        try:
            ensure_database(server, name)
        except errors.InsufficientPrivilege as error:
            raise CannotConnect(
                f"the role {admin.info.user!r} may not make a database, and acid works in one of its own: "
                "ALTER ROLE … CREATEDB, or leave --dsn out to use the embedded server"
            ) from error
        return Store(make_conninfo(server, dbname=name), 0).connect()


def _drop(server: str, name: str) -> None:
    gone = suppress(CannotConnect, psycopg.ProgrammingError, psycopg.OperationalError)
    with gone, closing(Store(server, 0).connect()) as admin:
        admin.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
