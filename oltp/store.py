"""The store: a Postgres with our schema in it, embedded or anybody's."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files

import psycopg
from psycopg import Connection, IsolationLevel, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from oltp.connection import Session
from oltp.embedded import open_cluster
from oltp.places import install_places
from oltp.shortage import naming_shortages
from ridelake.errors import CannotConnect
from ridelake.settings import Settings

SCHEMA_VERSION = 4
SERVER_VERSION_MIN = 150000  # the oldest we test; 14 has no MERGE and ends in 2026

# Any number that nobody else takes: two first users must not both install the schema.
INSTALL_LOCK = 0x52_49_44_45

# What the promises need of every session, whatever the server, the role or the caller's own options say:
# statements that see what others have done while they waited, and commits that are on disk when they answer.
# And no rows left out without a word: of a table whose policies hide some, a query fails.
PROMISED = r"-c default_transaction_isolation=read\ committed -c synchronous_commit=on -c row_security=off"

# Of one server; of a server that is away and does not refuse, each try takes as long.
CONNECT_SECONDS_MAX = 10
CONNECT_SECONDS_MAX_OF_SEVERAL = 2


@dataclass(frozen=True, slots=True)
class Store:
    """Where the store is. `conninfo` is a libpq connection string; the schema is on its search path,
    its time zone is UTC, and it has what the promises need (`PROMISED`)."""

    conninfo: str
    server_version: int

    def connect(self) -> Connection[TupleRow]:
        """A new connection in autocommit: one statement is one transaction unless `transaction` says else.

        Raises CannotConnect."""
        return _connect(self.conninfo)

    def system_identifier(self) -> str | None:
        """Which cluster this is, for its whole life; None where the server keeps it from us."""
        with self.connect() as connection:
            row = connection.execute(files("oltp").joinpath("system_identifier.sql").read_bytes()).fetchone()
        return row[0] if row else None

    def has_schema(self) -> bool:
        """Whether there is a ride store in the database."""
        with self.connect() as connection:
            found = connection.execute("SELECT to_regclass('ridelake.schema_version') IS NOT NULL").fetchone()
        return found == (True,)


@contextmanager
def open_store(settings: Settings, *, install: bool = True) -> Iterator[Store]:
    """The store that the settings name, with its schema installed; or a database as it is, whose own tables
    are to go into a lake.

    Raises CannotConnect if there is no server, an old one, or one with another schema version."""
    if settings.dsn is not None:
        with naming_shortages(None):
            yield open_database(settings.dsn, install=install)
    else:
        with naming_shortages(settings.home / "postgres"), open_cluster(settings.home) as cluster:
            ensure_database(cluster.conninfo("postgres"), "ridelake")
            yield open_database(cluster.conninfo("ridelake"), install=install)


def open_database(dsn: str, *, install: bool = True) -> Store:
    """The store in one database; the schema is installed if it is not there. Of a DSN with several hosts
    (`host=a,b`) the one that can be written to is used, whichever that is when a connection is made: what is
    read to decide a write is never read from a standby."""
    try:
        theirs = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise CannotConnect(f"not a connection string: {str(error).strip()}") from error
    ours = f"-c search_path=ridelake,public -c TimeZone=UTC {PROMISED}"
    options = f"{theirs.get('options') or ''} {ours}".strip()
    several = "," in str(theirs.get("host") or theirs.get("hostaddr") or "")
    if several:
        theirs["target_session_attrs"] = "read-write"
    timeout = CONNECT_SECONDS_MAX_OF_SEVERAL if several else CONNECT_SECONDS_MAX
    theirs["connect_timeout"] = theirs.get("connect_timeout") or timeout
    theirs |= {"options": options, "application_name": "ridelake", "client_encoding": "utf8"}
    conninfo = make_conninfo("", **theirs)
    with _connect(conninfo) as connection:
        version = connection.info.server_version
        if version < SERVER_VERSION_MIN:
            raise CannotConnect(
                f"this server is Postgres {version // 10000}; ridelake needs 15 or newer: "
                "point --dsn at a newer one, or leave it out to use the embedded one"
            )
        if install:
            _install_schema(connection)
    return Store(conninfo, version)


def ensure_database(conninfo: str, name: str) -> None:
    """CREATE DATABASE `name` if it is not there; `conninfo` leads to another database of the server."""
    with _connect(conninfo) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if found is None:
            with suppress(errors.DuplicateDatabase, errors.UniqueViolation):  # another first user was faster
                connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))


@contextmanager
def transaction(
    connection: Connection[TupleRow],
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    *,
    read_only: bool = False,
) -> Iterator[Connection[TupleRow]]:
    """The one place that opens a transaction of more than one statement."""
    connection.isolation_level = isolation
    connection.read_only = read_only
    try:
        with connection.transaction():
            try:
                yield connection
            except Exception:
                raise
            except BaseException:
                # An interrupt can leave the connection's lock taken. A closed connection does not wait
                # for it, and its server rolls back.
                connection.close()
                raise
            if connection.info.transaction_status == TransactionStatus.INERROR:
                # Its statement failed and somebody caught that; the COMMIT would be answered ROLLBACK,
                # without an error.
                raise errors.InFailedSqlTransaction("the transaction has failed and cannot be committed")
    except Exception:
        raise
    except BaseException:
        connection.close()
        raise
    finally:
        if not connection.closed:
            connection.isolation_level = None
            connection.read_only = None


def _connect(conninfo: str) -> Session:
    try:
        return Session.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        said = str(error).strip().splitlines()[0]
        raise CannotConnect(
            f"cannot reach Postgres: {said}. Start that server or correct --dsn / RIDELAKE_DSN; "
            "without them an embedded one is used"
        ) from error


def install_tracking(connection: Connection[TupleRow]) -> None:
    """Make the schema `ridelake_tracking`, if it is not there. Inside the caller's transaction."""
    if connection.execute("SELECT to_regclass('ridelake_tracking.tracked')").fetchone() == (None,):
        connection.execute(files("oltp").joinpath("tracking.sql").read_bytes())


def _install_schema(connection: Connection[TupleRow]) -> None:
    with transaction(connection):
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (INSTALL_LOCK,))
        if connection.execute("SELECT to_regclass('ridelake.schema_version')").fetchone() == (None,):
            install_tracking(connection)
            for name in ("schema.sql", "guards.sql", "booking.sql", "moves.sql", "ride_table.sql"):
                connection.execute(files("oltp").joinpath(name).read_bytes())
            install_places(connection)
            connection.execute("INSERT INTO schema_version VALUES (%s)", (SCHEMA_VERSION,))
        found = connection.execute("SELECT version FROM schema_version").fetchone()
        if found != (SCHEMA_VERSION,):
            raise CannotConnect(
                f"the store there has schema version {found[0] if found else 'unknown'}, this program has "
                f"{SCHEMA_VERSION}: use another database or --home, or start anew with "
                "DROP SCHEMA ridelake CASCADE"
            )
