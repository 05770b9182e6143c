"""Tables of the user's own, made ready for incremental epochs and left as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import Connection, errors
from psycopg.rows import TupleRow

from lakehouse.source import has_tracking, read_sources, refusing_bad_names
from oltp.store import Store, install_tracking, transaction
from ridelake.errors import BadInput, UsageError


def track(store: Store, table: str) -> str:
    """`oltp/tracking.sql` does it; gives the table's full name. Raises BadInput for a table that is not there
    or cannot be tracked, UsageError if the role may not change it."""
    with store.connect() as connection, _refusing_what_cannot_be(table):
        (source,) = read_sources(connection, [table], any_type=True)
        with transaction(connection):
            install_tracking(connection)
            connection.execute("SELECT ridelake_tracking.track(%s::regclass)", (source.relation,))
    return source.qualified


def untrack(store: Store, table: str) -> str:
    """Gives the table's full name. Raises BadInput for a table that is not there, or is not tracked; not for
    one that could not be put into a lake any more."""
    with store.connect() as connection, _refusing_what_cannot_be(table):
        relation, qualified = _named(connection, table)
        if qualified.startswith("ridelake."):
            raise BadInput(f"{qualified} is the store's own, which needs its tracking")
        with transaction(connection):
            done = has_tracking(connection) and connection.execute(
                "SELECT ridelake_tracking.untrack(%s::regclass)", (relation,)
            ).fetchone() == (True,)
        if not done:
            raise BadInput(f"{qualified} is not tracked")
    return qualified


def _named(connection: Connection[TupleRow], table: str) -> tuple[int, str]:
    with refusing_bad_names():
        found = connection.execute(
            "SELECT c.oid::bigint, quote_ident(nspname) || '.' || quote_ident(relname)"
            " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace"
            " WHERE c.oid = to_regclass(%s)",
            (table,),
        ).fetchone()
    if found is None:
        raise BadInput(f"there is no table {table} in Postgres: is --dsn the right database?")
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
    except errors.InsufficientPrivilege as error:
        raise UsageError(
            f"{error.diag.message_primary}: use the role that owns {table} and may create a schema"
        ) from error
