"""One moment of Postgres: its token, its tables, and when it must not be trusted.

The order matters. The tables are locked before the snapshot is taken, so that none is truncated in between;
the token is the snapshot's first look; and what the tables are is read again inside, because one may have
been altered before the lock.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files

from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow
from psycopg.sql import SQL

from lakehouse.epoch import Token
from lakehouse.extract import export_snapshot
from lakehouse.source import TableSource, read_sources, refusing_bad_tables
from lakehouse.timeline import keeps, position, read_forks
from oltp.store import Store, transaction
from ridelake.errors import RidelakeError, UsageError

# The log writer flushes five times a second; a server that needs longer than this is in trouble.
FLUSH_SECONDS_MAX = 30.0


@dataclass(slots=True)
class Moment:
    """An open transaction, what it has seen and the tables in it; and the name by which further connections
    can join its snapshot."""

    store: Store
    connection: Connection[TupleRow]
    token: Token
    sources: Sequence[TableSource]
    _name: str | None = None

    @property
    def name(self) -> str:
        self._name = self._name or export_snapshot(self.connection)
        return self._name


@contextmanager
def moment_of(
    store: Store,
    connection: Connection[TupleRow],
    tables: Sequence[str],
    since: Token | None = None,
    without: Sequence[str] = (),
) -> Iterator[Moment]:
    """This moment, for as long as the block. `without`: columns to leave out, as TABLE.COLUMN.

    Raises UsageError if it cannot be a lake's, or (`since`) cannot be later in the same history; BadInput for
    a table that is not there."""
    refuse_unfit_source(connection)
    with refusing_bad_tables():
        named = read_sources(connection, tables, without)
        refuse_hidden_rows(connection, named)
    with (
        refusing_bad_tables(),
        transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True),
    ):
        lock(connection, named)
        token = take_token(connection)
        if since is not None:
            refuse_a_break(since, token, _forks(connection, since, token))
        yield Moment(store, connection, token, read_sources(connection, tables, without))


def refuse_unfit_source(connection: Connection[TupleRow]) -> None:
    """On a standby pg_current_snapshot() does not know what is running on the primary, so that the token
    would promise more than the epoch holds; a database without an encoding has bytes, and no text. Raises
    UsageError for both."""
    found = connection.execute("SELECT pg_is_in_recovery(), getdatabaseencoding()").fetchone()
    is_standby, encoding = found or (None, None)
    if encoding == "SQL_ASCII":
        raise UsageError(
            "that database has no encoding (SQL_ASCII), so nobody knows what its texts are: copy it into one "
            "that has, with pg_dump --encoding"
        )
    if is_standby:
        raise UsageError(
            "that server is a standby, whose snapshots are not exact: point --dsn at the primary"
        )


def refuse_hidden_rows(connection: Connection[TupleRow], tables: Sequence[TableSource]) -> None:
    """What a policy hides, the proof would not see either; an epoch has all rows. Raises UsageError."""
    hidden = connection.execute(
        "SELECT min(relation::regclass::text) FROM unnest(%s::oid[]) AS r (relation)"
        " WHERE row_security_active(relation)",
        ([table.relation for table in tables],),
    ).fetchone()
    if hidden and hidden[0]:
        raise UsageError(
            f"row-level security hides rows of {hidden[0]} from this role, and an epoch has all: connect as "
            "the role that owns it, or as one with BYPASSRLS"
        )


def lock(connection: Connection[TupleRow], tables: Sequence[TableSource]) -> None:
    """Before the snapshot is taken, and against TRUNCATE and ALTER alone: a table that is truncated after
    the snapshot and before it is read would be read as empty."""
    names = SQL(", ").join(table.identifier for table in tables)
    connection.execute(SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))


def take_token(connection: Connection[TupleRow]) -> Token:
    """The first look of a REPEATABLE READ transaction, which takes its snapshot."""
    found = connection.execute(files("lakehouse").joinpath("token.sql").read_bytes()).fetchone()
    assert found is not None
    return Token(*found)


def refuse_a_break(old: Token, new: Token, forks: Mapping[int, str] | None = None) -> None:
    """Raises UsageError if `new` cannot be later in the same history as `old`: what has changed between
    them is then not to be told from the numbers of transactions. `forks`: where the server's history left
    earlier timelines (`lakehouse.timeline`); None if it does not say."""
    if None not in (old.system_identifier, new.system_identifier) and (
        old.system_identifier != new.system_identifier
    ):
        what = f"this lake is of another server (system identifier {old.system_identifier})"
        hint = f"this one is {new.system_identifier}: is --dsn right? If so, "
    elif None not in (old.database, new.database) and old.database != new.database:
        what = f"this lake is of another database of the server (oid {old.database})"
        hint = f"this one is {new.database}: is --dsn right? If so, "
    elif (
        old.timeline is not None
        and new.timeline is not None
        and old.timeline != new.timeline
        and not (forks and keeps(forks, old.timeline, old.lsn))
    ):
        what = f"the server went from timeline {old.timeline} to {new.timeline}"
        hint = _why_it_is_not_the_same_history(old, old.timeline, forks)
    elif new.xmax < old.xmax or position(new.lsn) < position(old.lsn):
        what = "the server has gone back in time"
        hint = f"it was restored to before the newest epoch ({old.taken_at}): "
    else:
        return
    raise UsageError(f"{what}; {hint}run `ridelake snapshot` to begin anew from all rows")


def refuse_another_history(connection: Connection[TupleRow], since: Token) -> None:
    """Raises UsageError if this server, as it is now, cannot be later in the same history as `since`, or is a
    standby."""
    refuse_unfit_source(connection)
    with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
        token = take_token(connection)
        refuse_a_break(since, token, _forks(connection, since, token))


def _forks(connection: Connection[TupleRow], old: Token, new: Token) -> dict[int, str] | None:
    if new.timeline is None or new.timeline == old.timeline:
        return None
    return read_forks(connection, new.timeline)


def _why_it_is_not_the_same_history(old: Token, left: int, forks: Mapping[int, str] | None) -> str:
    if forks is None:
        return (
            "a standby was promoted or a backup restored, and this role may not read where "
            "(pg_read_file), so that what the lake has may be gone there: connect as one that may, or "
        )
    if left not in forks:
        return f"its history does not go through timeline {left}: a backup of before was restored: "
    return (
        f"it left timeline {left} at {forks[left]}, before the newest epoch's position {old.lsn} "
        f"({old.taken_at}): that standby lagged behind, and the lake may have rows that it never had: "
    )


def wait_until_flushed(connection: Connection[TupleRow], lsn: str) -> None:
    """With synchronous_commit off, rows can be seen before they are safe; a crash would take them back
    from Postgres, and leave them in the lake for ever. Raises RidelakeError if the log is not flushed."""
    query = files("lakehouse").joinpath("flushed.sql").read_bytes()
    give_up = time.monotonic() + FLUSH_SECONDS_MAX
    while connection.execute(query, {"lsn": lsn}).fetchone() != (True,):
        if time.monotonic() > give_up:
            raise RidelakeError(
                "Postgres does not flush its log, so the epoch would not be safe: run it again"
            )
        time.sleep(0.005)
