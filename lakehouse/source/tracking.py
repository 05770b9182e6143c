"""Start and end the change tracking of a user's table, for incremental epochs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from shlex import quote

from psycopg import Connection, errors
from psycopg.rows import TupleRow

from lakehouse.source.selection import check_schemas, select_tables
from lakehouse.source.snapshot import check_server_history
from lakehouse.source.tables import find_relations, find_tables, store_tables, table_errors, table_name_errors
from lakehouse.table.epoch import Selection, SnapshotToken
from oltp.store import (
    INSTALL_LOCK,
    Store,
    has_tracking,
    install_tracking,
    is_newest_tracking,
    transaction,
    upgrade_tracking,
)
from ridelake.errors import BadInput, UsageError
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.source")

# While a session waits for a lock, other statements on the table queue behind it.
LOCK_SECONDS_MAX = 2
LIMIT_LOCK_WAIT = f"SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX}s'".encode()

NO_ACCESS = (
    "this role may not read the schema ridelake_tracking, so each epoch copies the tracked tables "
    "completely: as the owner of the schema run GRANT USAGE ON SCHEMA ridelake_tracking and GRANT SELECT ON "
    "ALL TABLES IN SCHEMA ridelake_tracking"
)


def track(store: Store, table: str) -> str:
    """Add the column and the triggers of `oltp/tracking.sql`; return the table's qualified name. Raises
    BadInput for a table that does not exist or cannot be tracked, UsageError if the role may not alter it or
    the table is in use for longer than LOCK_SECONDS_MAX."""
    with store.connect() as connection, _tracking_errors(table):
        ((_, relation, _, _, qualified, *_),) = find_tables(connection, [table])
        with _update_errors():
            _update(connection)
        with transaction(connection):
            connection.execute(LIMIT_LOCK_WAIT)
            install_tracking(connection)
            connection.execute("SELECT ridelake_tracking.track(%s::regclass)", (relation,))
    return str(qualified)


def untracked_tables(store: Store, selection: Selection) -> list[str]:
    """The selected tables that are not tracked, as SQL identifiers. Raises BadInput for a schema that does
    not exist."""
    with store.connect() as connection:
        check_schemas(connection, selection)
        names = [n for n, problem in select_tables(connection, selection).items() if problem is None]
        relations = [row[1] for row in find_relations(connection, names)]
        tracked = set[int]()
        if has_tracking(connection):
            rows = connection.execute(QUERIES["tracked"], {"relations": relations}).fetchall()
            tracked = {row[0] for row in rows}
    return [name for name, one in zip(names, relations, strict=True) if one not in tracked]


def untrack(store: Store, table: str) -> str:
    """Remove the tracking; return the table's qualified name. Raises BadInput for a table that does not exist
    or is not tracked, UsageError as `track`. The table need not be valid for a lake."""
    with store.connect() as connection, _tracking_errors(table):
        ((_, relation, _, _, qualified, *_),) = find_relations(connection, [table])
        if qualified in store_tables():
            raise BadInput(
                f"cannot untrack {qualified}: the ride store needs its tracking; name a table of your own"
            )
        with _update_errors():
            _update(connection)
        with transaction(connection):
            connection.execute(LIMIT_LOCK_WAIT)
            install_tracking(connection)  # undone with the transaction, if there was nothing to remove
            done = connection.execute(
                "SELECT ridelake_tracking.untrack(%s::regclass)", (relation,)
            ).fetchone()
            if done != (True,):
                raise BadInput(f"{qualified} is not tracked: there is nothing to remove")
    return str(qualified)


def renew_tracking(store: Store, tables: Sequence[str], since: SnapshotToken | None = None) -> list[str]:
    """Track these tables again if their tracking was created by an older version, for another key, or on
    another server and restored from a dump. The next epoch copies them completely, once. Returns a message
    for each table that this role cannot track. Raises UsageError if the server cannot continue the history
    of `since`."""
    with store.connect() as connection, table_errors():
        relations = _triggered(connection, tables)
        if not relations or (has_tracking(connection) and not _outdated(connection, relations)):
            return []
        if since is not None:
            check_server_history(connection, since)
        try:
            _update(connection)
        except (errors.InsufficientPrivilege, errors.LockNotAvailable) as error:
            if not _has_access(connection):
                return [NO_ACCESS]
            return [_not_renewed("the tracking of this database", "TABLE", error)]
        if not has_tracking(connection):
            return []
        renewed = [_renew_one(connection, *table) for table in _outdated(connection, relations)]
    return [sentence for sentence in renewed if sentence]


def _renew_one(connection: Connection[TupleRow], relation: int, qualified: str) -> str | None:
    try:
        with transaction(connection):
            connection.execute(LIMIT_LOCK_WAIT)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (INSTALL_LOCK,))
            if _outdated(connection, [relation]):  # unless another process has already done it
                connection.execute("SELECT ridelake_tracking.track(%s::regclass)", (relation,))
    except errors.FeatureNotSupported as error:  # `track` would refuse it, too
        return f"each epoch copies {qualified} completely: {error.diag.message_primary}"
    except (errors.InsufficientPrivilege, errors.LockNotAvailable) as error:
        return _not_renewed(qualified, qualified, error)
    return None


def _not_renewed(what: str, table: str, error: errors.Error) -> str:
    return (
        f"{what} is from another server or an older version and cannot be updated "
        f"({error.diag.message_primary}), so each epoch copies the table completely: "
        f"run `ridelake track {quote(table)}` as the role that owns it"
    )


def _triggered(connection: Connection[TupleRow], tables: Sequence[str]) -> list[int]:
    """The oids of the tables that have a tracking trigger."""
    with table_name_errors():
        found = connection.execute(
            "SELECT DISTINCT tgrelid::bigint FROM unnest(%s::text[]) AS t (name)"
            " JOIN pg_trigger ON tgrelid = to_regclass(t.name) WHERE tgname ~ '^(zzz_)?ridelake_'",
            (list(tables),),
        ).fetchall()
    return [row[0] for row in found]


def _outdated(connection: Connection[TupleRow], relations: Sequence[int]) -> list[tuple[int, str]]:
    query = QUERIES["outdated"]
    return connection.execute(query, {"relations": list(relations)}).fetchall()


def _update(connection: Connection[TupleRow]) -> None:
    """Upgrade the schema of an older version, in a separate transaction: holding locks on its tables while
    waiting for a user's table could deadlock with writers of that table. If that is not possible now, a
    version that epochs can use stays."""
    if not _is_there(connection) or is_newest_tracking(connection):
        return
    try:
        with transaction(connection):
            connection.execute(LIMIT_LOCK_WAIT)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (INSTALL_LOCK,))
            upgrade_tracking(connection)
    except (errors.InsufficientPrivilege, errors.LockNotAvailable):
        if not has_tracking(connection):
            raise


def _has_access(connection: Connection[TupleRow]) -> bool:
    found = connection.execute(
        "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'ridelake_tracking'"
    ).fetchone()
    return found == (True,)


def _is_there(connection: Connection[TupleRow]) -> bool:
    return connection.execute("SELECT to_regclass('ridelake_tracking.tracked')").fetchone() != (None,)


@contextmanager
def _update_errors() -> Iterator[None]:
    """Raises UsageError if another session uses the tables of the tracking."""
    try:
        yield
    except errors.LockNotAvailable as error:
        raise UsageError(
            "the tracking of this database is from an older version and cannot be updated "
            f"({error.diag.message_primary}): run the command again when no long transaction is open"
        ) from error


@contextmanager
def _tracking_errors(table: str) -> Iterator[None]:
    """Convert errors of Postgres into messages for the user. Raises BadInput, UsageError."""
    try:
        yield
    except errors.FeatureNotSupported as error:
        raise BadInput(error.diag.message_primary or str(error)) from error
    except errors.TooManyColumns as error:
        raise BadInput(
            f"cannot track {table}: it has too many columns to add the column tx; drop a column"
        ) from error
    except errors.DependentObjectsStillExist as error:
        raise BadInput(
            f"cannot untrack {table}: other objects depend on its column tx ({error.diag.message_detail}); "
            "drop them first"
        ) from error
    except errors.LockNotAvailable as error:
        raise UsageError(
            f"cannot lock {table}, because a transaction has used it for more than {LOCK_SECONDS_MAX} s: run "
            "the command again when that transaction has ended"
        ) from error
    except errors.InsufficientPrivilege as error:
        if "is a system catalog" in (error.diag.message_primary or ""):
            raise BadInput(f"{table} is a system catalog: name a table of your own") from error
        raise UsageError(
            f"{error.diag.message_primary}: connect as a role that owns {table} and may create a schema"
        ) from error
