"""Tables of the user's own, made ready for incremental epochs and left as they were."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files

from psycopg import Connection, errors
from psycopg.rows import TupleRow

from lakehouse.epoch import Token
from lakehouse.moment import refuse_another_history
from lakehouse.source import (
    find_tables,
    no_such_table,
    refusing_bad_names,
    refusing_bad_tables,
    store_tables,
)
from oltp.store import INSTALL_LOCK, Store, has_tracking, install_tracking, transaction
from ridelake.errors import BadInput, UsageError

# A lock that is waited for longer holds up the users of the table: they queue behind it.
LOCK_SECONDS_MAX = 2

NO_ACCESS = (
    "this role may not read what tracking records, so each epoch takes the tracked tables whole: as its "
    "owner run GRANT USAGE ON SCHEMA ridelake_tracking and GRANT SELECT ON ALL TABLES IN SCHEMA "
    "ridelake_tracking"
)


def track(store: Store, table: str) -> str:
    """`oltp/tracking.sql` does it; gives the table's full name. Raises BadInput for a table that is not there
    or cannot be tracked, UsageError if the role may not change it."""
    with store.connect() as connection, _refusing_what_cannot_be(table):
        ((_, relation, _, _, qualified, *_),) = find_tables(connection, [table])
        _update(connection)
        with transaction(connection):
            install_tracking(connection)
            connection.execute("SELECT ridelake_tracking.track(%s::regclass)", (relation,))
    return str(qualified)


def untrack(store: Store, table: str) -> str:
    """Gives the table's full name. Raises BadInput for a table that is not there, or is not tracked; not for
    one that could not be put into a lake any more."""
    with store.connect() as connection, _refusing_what_cannot_be(table):
        relation, qualified = _named(connection, table)
        if qualified in store_tables():
            raise BadInput(
                f"{qualified} belongs to the ride store, which needs its tracking: name a table of your own"
            )
        _update(connection)
        with transaction(connection):
            install_tracking(connection)  # undone with the transaction, if there was nothing to remove
            done = connection.execute(
                "SELECT ridelake_tracking.untrack(%s::regclass)", (relation,)
            ).fetchone()
            if done != (True,):
                raise BadInput(f"{qualified} is not tracked: there is nothing to undo")
    return qualified


def renew(store: Store, tables: Sequence[str], since: Token | None = None) -> list[str]:
    """Track these tables again where their tracking was written by an older version, for another key, or on
    another server and came with a dump; the next epoch takes them whole once. Returns a sentence for each
    table where this role cannot do it. Raises UsageError if the server cannot continue the history of
    `since`."""
    with store.connect() as connection, refusing_bad_tables():
        relations = _triggered(connection, tables)
        if not relations or (has_tracking(connection) and not _outdated(connection, relations)):
            return []
        if since is not None:
            refuse_another_history(connection, since)
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
            connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX}s'".encode())
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (INSTALL_LOCK,))
            if _outdated(connection, [relation]):  # unless another process was faster
                connection.execute("SELECT ridelake_tracking.track(%s::regclass)", (relation,))
    except (errors.InsufficientPrivilege, errors.LockNotAvailable, errors.FeatureNotSupported) as error:
        return _not_renewed(qualified, qualified, error)
    return None


def _not_renewed(what: str, table: str, error: errors.Error) -> str:
    return (
        f"{what} is from another server or an older version and cannot be updated "
        f"({error.diag.message_primary}), so each epoch takes the table whole: "
        f"run `ridelake track {table}` as the role that owns it"
    )


def _triggered(connection: Connection[TupleRow], tables: Sequence[str]) -> list[int]:
    """The tables that have a trigger of ours."""
    with refusing_bad_names():
        found = connection.execute(
            "SELECT DISTINCT tgrelid::bigint FROM unnest(%s::text[]) AS t (name)"
            " JOIN pg_trigger ON tgrelid = to_regclass(t.name) WHERE tgname ~ '^(zzz_)?ridelake_'",
            (list(tables),),
        ).fetchall()
    return [row[0] for row in found]


def _outdated(connection: Connection[TupleRow], relations: Sequence[int]) -> list[tuple[int, str]]:
    query = files("lakehouse").joinpath("outdated.sql").read_bytes()
    return connection.execute(query, {"relations": list(relations)}).fetchall()


def _update(connection: Connection[TupleRow]) -> None:
    """Bring an older version's schema up to date, in a transaction of its own: to hold its tables locked
    while waiting for a user's table would be a deadlock with that table's writers."""
    if has_tracking(connection) or not _is_there(connection):
        return
    with transaction(connection):
        connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX}s'".encode())
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (INSTALL_LOCK,))
        install_tracking(connection)


def _has_access(connection: Connection[TupleRow]) -> bool:
    found = connection.execute(
        "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'ridelake_tracking'"
    ).fetchone()
    return found == (True,)


def _is_there(connection: Connection[TupleRow]) -> bool:
    return connection.execute("SELECT to_regclass('ridelake_tracking.tracked')").fetchone() != (None,)


def _named(connection: Connection[TupleRow], table: str) -> tuple[int, str]:
    with refusing_bad_names():
        found = connection.execute(
            "SELECT c.oid::bigint, quote_ident(nspname) || '.' || quote_ident(relname)"
            " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace"
            " WHERE c.oid = to_regclass(%s)",
            (table,),
        ).fetchone()
    if found is None:
        raise no_such_table(connection, table)
    return int(found[0]), str(found[1])


@contextmanager
def _refusing_what_cannot_be(table: str) -> Iterator[None]:
    try:
        yield
    except errors.FeatureNotSupported as error:
        raise BadInput(error.diag.message_primary or str(error)) from error
    except errors.TooManyColumns as error:
        raise BadInput(f"cannot track {table}: it has no room for the column tx; drop a column") from error
    except errors.DependentObjectsStillExist as error:
        raise BadInput(
            f"something is built on the column tx of {table} ({error.diag.message_detail}): drop that first"
        ) from error
    except errors.LockNotAvailable as error:
        raise UsageError(
            "the tracking of this database is from an older version and cannot be updated "
            f"({error.diag.message_primary}): run it again when no long transaction is open"
        ) from error
    except errors.InsufficientPrivilege as error:
        if "is a system catalog" in (error.diag.message_primary or ""):
            raise BadInput(f"{table} is a system catalog: name a table of your own") from error
        raise UsageError(
            f"{error.diag.message_primary}: use the role that owns {table} and may create a schema"
        ) from error
