"""A scratch database on the configured server, dropped at the end.

A killed run leaves its database. The next run drops every database with the prefix and no connections.
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

from oltp.cluster.server import open_cluster
from oltp.connection import session_options
from oltp.store import Store, ensure_database, not_a_dsn
from ridelake.errors import CannotConnect
from ridelake.settings import Settings

PREFIX = "ridelake_acid_"
SCHEMA = "ridelake_acid"

# An advisory lock, any unused number. It protects a database that was just created and has no connection yet.
CREATE_LOCK = 0x41_43_49_44

UNUSED = """
    SELECT datname FROM pg_database AS d
    WHERE starts_with(datname, %s) AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.datid = d.oid)"""


@dataclass(frozen=True, slots=True)
class ScratchDatabase:
    """`dsn`: a connection string for the database. `small`: its schema `ridelake_acid`."""

    dsn: str
    small: Store


@contextmanager
def open_scratch(settings: Settings) -> Iterator[ScratchDatabase]:
    """A scratch database on the configured server. Nothing else on the server is changed.

    Raises CannotConnect if there is no server, or if the role may not create a database."""
    if settings.dsn is not None:
        with scratch_on_server(settings.dsn) as scratch:
            yield scratch
    else:
        with (
            open_cluster(settings.home) as cluster,
            scratch_on_server(cluster.conninfo("postgres")) as scratch,
        ):
            yield scratch


@contextmanager
def scratch_on_server(server: str) -> Iterator[ScratchDatabase]:
    """A scratch database on the server of the connection string `server`."""
    name = PREFIX + token_hex(4)
    with closing(_connected(server)) as admin:  # kept for the DROP: an interrupt leaves little time for it
        try:
            with closing(_create(admin, server, name)) as kept_open:
                given = conninfo_to_dict(server).get("options") or ""
                options = f"{given} {session_options(SCHEMA)}".strip()
                dsn = make_conninfo(server, dbname=name)
                small = Store(make_conninfo(dsn, options=options), kept_open.info.server_version)
                yield ScratchDatabase(dsn, small)
        finally:
            _drop(admin, name)


def _connected(server: str) -> Connection[TupleRow]:
    try:
        conninfo_to_dict(server)
    except psycopg.ProgrammingError as error:
        raise not_a_dsn(server, error) from error
    return Store(server, 0).connect()


def _create(admin: Connection[TupleRow], server: str, name: str) -> Connection[TupleRow]:
    """Create the database and return a connection to it, which marks the database as in use."""
    admin.execute("SELECT pg_advisory_lock(%s)", (CREATE_LOCK,))
    try:
        for (unused,) in admin.execute(UNUSED, (PREFIX,)).fetchall():
            with suppress(errors.ObjectInUse, errors.InsufficientPrivilege, errors.InvalidCatalogName):
                admin.execute(SQL("DROP DATABASE {}").format(Identifier(unused)))
        try:
            ensure_database(server, name)
        except errors.InsufficientPrivilege as error:
            raise CannotConnect(
                f"the role {admin.info.user!r} may not create databases, and acid needs a scratch database: "
                "run ALTER ROLE … CREATEDB, or leave out --dsn to use the embedded server"
            ) from error
        return Store(make_conninfo(server, dbname=name), 0).connect()
    finally:
        with suppress(psycopg.OperationalError):
            admin.execute("SELECT pg_advisory_unlock(%s)", (CREATE_LOCK,))


def _drop(admin: Connection[TupleRow], name: str) -> None:
    with suppress(psycopg.ProgrammingError, psycopg.OperationalError):
        admin.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
