"""The store: a Postgres database with the schema `ridelake`, on the embedded or on another server."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, IsolationLevel, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from oltp.cluster.server import Cluster, open_cluster
from oltp.connection import StoreSession, session_options
from oltp.places import install_places
from ridelake.errors import CannotConnect, NotReady, OutOfResources, UsageError, first_line
from ridelake.queries import load_queries, load_script
from ridelake.resources import describe_shortage, describe_shortage_in_log
from ridelake.settings import Settings

QUERIES = load_queries("oltp")

SCHEMA_VERSION = 4
SERVER_VERSION_MIN = 150000  # the oldest tested version; 14 has no MERGE and is supported until 2026

TRACKING_VERSION = re.compile(r"IS 'version (\d+)'")  # the comment at the end of tracking.sql

# An advisory lock, any unused number, so that two processes do not both install the schema.
INSTALL_LOCK = 0x52_49_44_45

# Connect timeouts in seconds. An unreachable host uses the full timeout on each attempt.
CONNECT_SECONDS_MAX = 10
CONNECT_SECONDS_MAX_OF_SEVERAL = 2

DSN_ADVICE = ". Start the server or correct --dsn / RIDELAKE_DSN; without them the embedded server is used"

LOG_BYTES = 64_000  # at the end of the embedded server's log, searched for the cause of an exit


@dataclass(frozen=True, slots=True)
class Store:
    """The location of the store. `conninfo`: a libpq connection string, which sets the search path. Every
    session has the settings of `oltp.connection.SESSION_SETTINGS`."""

    conninfo: str
    server_version: int

    def connect(self) -> Connection[TupleRow]:
        """A new connection in autocommit: outside of `transaction`, each statement is a transaction.

        Raises CannotConnect."""
        return _connect(self.conninfo)

    def system_identifier(self) -> str | None:
        """The system identifier of the database cluster; None if this role may not read it."""
        with self.connect() as connection:
            row = connection.execute(QUERIES["system_identifier"]).fetchone()
        return row[0] if row else None

    def schema_state(self) -> str:
        """The state of the schema `ridelake`: `installed`, `missing`, or `no access` for this role."""
        with self.connect() as connection:
            return _schema_state(connection)

    def refuse_without_schema(self, hint: str) -> None:
        """Check that the ride store exists and can be used. Raises NotReady if there is no ride store,
        UsageError if this role may not use it, CannotConnect if it has another schema version."""
        with self.connect() as connection:
            state, role = _schema_state(connection), connection.info.user
            if state == "missing":
                raise NotReady(f"there is no ride store in this database: {hint}")
            if state == "no access":
                raise UsageError(no_access(role))
            try:
                _refuse_another_version(connection)
            except errors.InsufficientPrivilege as error:
                raise UsageError(no_access(role)) from error


@contextmanager
def open_store(settings: Settings, *, install: bool = True) -> Iterator[Store]:
    """The configured store. `install`: create the schema if it is missing; False for a database whose own
    tables are copied into a lake.

    Raises CannotConnect if there is no server, if it is too old, or if the store has another schema
    version."""
    if settings.dsn is not None:
        with shortage_errors(None):
            yield open_database(settings.dsn, install=install)
    else:
        with shortage_errors(settings.home / "postgres"), open_cluster(settings.home) as cluster:
            ensure_database(cluster.conninfo("postgres"), "ridelake")
            yield open_database(cluster.conninfo("ridelake"), install=install)


@contextmanager
def open_existing_store(
    settings: Settings, *, rides: bool = True, hint: str = "run `ridelake seed`"
) -> Iterator[Store]:
    """The store, for a command that creates nothing. With `rides` False the database need not have a ride
    store. `hint`: how to create one.

    Raises NotReady if there is no server in the home folder, or no ride store; UsageError if this role may
    not use it."""
    if settings.dsn is None and not Cluster(settings.home / "postgres").data.exists():
        raise NotReady(f"there is no ride store in {settings.home}: {hint}")
    with open_store(settings, install=False) as store:
        if rides:
            store.refuse_without_schema(hint)
        yield store


def no_access(role: str) -> str:
    return (
        f'no access to the ride store for role "{role}": as its owner run GRANT USAGE ON SCHEMA ridelake '
        f'TO "{role}" and GRANT SELECT ON ALL TABLES IN SCHEMA ridelake TO "{role}"'
    )


def not_a_dsn(dsn: str, error: psycopg.ProgrammingError) -> CannotConnect:
    """The error for an invalid DSN. If the string has no `=`, libpq quotes it with the password; that is
    omitted."""
    text = str(error).strip()
    reason = "" if text.startswith('missing "="') else f" ({text})"
    return CannotConnect(
        f"--dsn or RIDELAKE_DSN is not a connection string of Postgres{reason}: "
        "write postgresql://user@host:5432/database"
    )


def parse_dsn(dsn: str) -> dict[str, Any]:
    """The parameters of a connection to the server of `dsn` that accepts writes. Raises CannotConnect if the
    DSN is invalid."""
    try:
        parameters: dict[str, Any] = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise not_a_dsn(dsn, error) from error
    several = "," in str(parameters.get("host") or parameters.get("hostaddr") or "")
    if several:
        parameters["target_session_attrs"] = "read-write"
    timeout = CONNECT_SECONDS_MAX_OF_SEVERAL if several else CONNECT_SECONDS_MAX
    parameters["connect_timeout"] = parameters.get("connect_timeout") or timeout
    return parameters | {"client_encoding": "utf8"}


def open_database(dsn: str, *, install: bool = True) -> Store:
    """The store in the database of `dsn`; the schema is created if it is missing. If the DSN lists several
    hosts (`host=a,b`), each connection goes to the one that accepts writes, so that a write never depends on
    data read from a standby."""
    parameters = parse_dsn(dsn)
    options = f"{parameters.get('options') or ''} {session_options('ridelake,public')}".strip()
    conninfo = make_conninfo("", **parameters | {"options": options, "application_name": "ridelake"})
    with _connect(conninfo) as connection:
        version = connection.info.server_version
        if version < SERVER_VERSION_MIN:
            raise CannotConnect(
                f"the server is Postgres {version // 10000}; ridelake needs 15 or newer: "
                "use a newer server with --dsn, or leave out --dsn to use the embedded one"
            )
        if install:
            _install_schema(connection)
    return Store(conninfo, version)


def ensure_database(conninfo: str, name: str) -> None:
    """CREATE DATABASE `name` if it does not exist; `conninfo` names another database of the server."""
    with _connect(conninfo) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if found is None:
            with suppress(errors.DuplicateDatabase, errors.UniqueViolation):  # another process has created it
                connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))


@contextmanager
def transaction(
    connection: Connection[TupleRow],
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    *,
    read_only: bool = False,
) -> Iterator[Connection[TupleRow]]:
    """A transaction block. All code opens transactions with this function."""
    connection.isolation_level = isolation
    connection.read_only = read_only
    try:
        with connection.transaction():
            try:
                yield connection
            except Exception:
                raise
            except BaseException:
                # An interrupt can leave psycopg's lock held. A closed connection does not wait for it, and
                # the server rolls back.
                connection.close()
                raise
            if connection.info.transaction_status == TransactionStatus.INERROR:
                # A statement failed and the caller caught the error. COMMIT would return ROLLBACK without an
                # error.
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


def _connect(conninfo: str) -> StoreSession:
    try:
        return StoreSession.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        raise CannotConnect(f"cannot connect to Postgres: {first_line(error)}{DSN_ADVICE}") from error


def install_tracking(connection: Connection[TupleRow]) -> None:
    """Create the schema `ridelake_tracking`, or upgrade a version of it that epochs cannot use, in the
    caller's transaction."""
    if connection.execute("SELECT to_regnamespace('ridelake_tracking')").fetchone() == (None,):
        connection.execute("CREATE SCHEMA ridelake_tracking")
    if not has_tracking(connection):
        upgrade_tracking(connection)


def upgrade_tracking(connection: Connection[TupleRow]) -> None:
    """Execute `tracking.sql` in the caller's transaction; it can be executed again."""
    connection.execute(load_script("oltp", "tracking.sql"))


def is_newest_tracking(connection: Connection[TupleRow]) -> bool:
    """Whether this package's version of `tracking.sql`, or a newer one, is installed."""
    found = connection.execute(QUERIES["tracking_version"]).fetchone()
    (packaged,) = TRACKING_VERSION.findall(load_script("oltp", "tracking.sql"))
    return bool(found and found[0] and found[0] >= int(packaged))


def has_tracking(connection: Connection[TupleRow]) -> bool:
    """Whether `tracking.sql` is installed in a version that epochs can use, and this role may read its
    tables."""
    query = QUERIES["has_tracking"]
    return connection.execute(query).fetchone() == (True,)


def _install_schema(connection: Connection[TupleRow]) -> None:
    with transaction(connection):
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (INSTALL_LOCK,))
        if connection.execute("SELECT to_regclass('ridelake.schema_version')").fetchone() == (None,):
            install_tracking(connection)
            for name in ("schema.sql", "triggers.sql", "booking.sql", "lifecycle.sql", "ride_table.sql"):
                connection.execute(load_script("oltp", name))
            install_places(connection)
            connection.execute("INSERT INTO schema_version VALUES (%s)", (SCHEMA_VERSION,))
        _refuse_another_version(connection)


def _schema_state(connection: Connection[TupleRow]) -> str:
    found = connection.execute(
        "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'ridelake'"
    ).fetchone()
    if found == (False,):
        return "no access"
    there = connection.execute("SELECT to_regclass('ridelake.schema_version')").fetchone()
    return "missing" if there == (None,) else "installed"


def _refuse_another_version(connection: Connection[TupleRow]) -> None:
    found = connection.execute("SELECT version FROM ridelake.schema_version").fetchone()
    if found != (SCHEMA_VERSION,):
        raise CannotConnect(
            f"the store has schema version {found[0] if found else 'unknown'}, and this version of ridelake "
            f"needs {SCHEMA_VERSION}: use another database or --home, or drop the schema with "
            "DROP SCHEMA ridelake CASCADE"
        )


@contextmanager
def shortage_errors(folder: Path | None) -> Iterator[None]:
    """Raise server errors that a shortage causes as OutOfResources. `folder`: the folder of the embedded
    server, whose log is read if the server ended without an error message."""
    log = folder / "server.log" if folder is not None else None
    before = _size(log)
    place = folder if folder is not None else "the files of the Postgres server"
    option = "--home" if folder is not None else ""
    try:
        yield
    except (psycopg.Error, CannotConnect, UsageError) as error:
        if isinstance(error, UsageError) and not isinstance(error.__cause__, OSError):
            raise
        message = describe_shortage(error, place, option)
        if message is None and log is not None and not isinstance(error, UsageError):
            message = describe_shortage_in_log(_end_of(log, before), place, option)
        if message is None:
            raise
        raise OutOfResources(message) from error


def _size(log: Path | None) -> int:
    with suppress(OSError):
        return log.stat().st_size if log is not None else 0
    return 0


def _end_of(log: Path, before: int) -> str:
    """What was written to the log since it had the size `before`."""
    try:
        with log.open("rb") as lines:
            lines.seek(max(before, log.stat().st_size - LOG_BYTES))
            return lines.read().decode(errors="replace")
    except OSError:
        return ""
