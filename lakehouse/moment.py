"""One snapshot of Postgres: its token, its tables, and the checks that it can be used.

The order matters. The tables are locked before the snapshot is taken, so that none is truncated in between.
The token is read by the first statement of the snapshot. The table definitions are read again inside the
snapshot, because a table may have been altered before it was locked.
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

# The WAL writer flushes five times a second; a server that needs longer than this has a problem.
FLUSH_SECONDS_MAX = 30.0


@dataclass(slots=True)
class Moment:
    """An open transaction, its token and its tables. `name`: the exported snapshot, which other connections
    can import."""

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
    """A snapshot that is open until the end of the block. `without`: columns to exclude, as TABLE.COLUMN.

    Raises UsageError if the server cannot be the source of a lake, or cannot be later in the history of
    `since`; BadInput for a table that does not exist."""
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
    """Raises UsageError for a standby and for a database without an encoding. On a standby
    pg_current_snapshot() does not include the transactions that run on the primary, so the token would be
    wrong. In a database without an encoding, text is arbitrary bytes."""
    found = connection.execute("SELECT pg_is_in_recovery(), getdatabaseencoding()").fetchone()
    is_standby, encoding = found or (None, None)
    if encoding == "SQL_ASCII":
        raise UsageError(
            "the database has the encoding SQL_ASCII, so its text cannot be decoded reliably: copy it into a "
            "UTF-8 database with pg_dump --encoding"
        )
    if is_standby:
        raise UsageError("the server is a standby, whose snapshots are not exact: point --dsn at the primary")


def refuse_hidden_rows(connection: Connection[TupleRow], tables: Sequence[TableSource]) -> None:
    """Raises UsageError if row-level security hides rows from this role: an epoch must have all rows, and
    `--verify` would not see hidden rows either."""
    hidden = connection.execute(
        "SELECT min(relation::regclass::text) FROM unnest(%s::oid[]) AS r (relation)"
        " WHERE row_security_active(relation)",
        ([table.relation for table in tables],),
    ).fetchone()
    if hidden and hidden[0]:
        raise UsageError(
            f"row-level security hides rows of {hidden[0]} from this role, but an epoch needs all rows: "
            "connect as the owner of the table, or as a role with BYPASSRLS"
        )


def lock(connection: Connection[TupleRow], tables: Sequence[TableSource]) -> None:
    """Lock against TRUNCATE and ALTER, before the snapshot is taken: a table that is truncated between the
    snapshot and the read would be read as empty."""
    names = SQL(", ").join(table.identifier for table in tables)
    connection.execute(SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))


def take_token(connection: Connection[TupleRow]) -> Token:
    """Must be the first query of a REPEATABLE READ transaction, which takes the snapshot."""
    found = connection.execute(files("lakehouse").joinpath("token.sql").read_bytes()).fetchone()
    assert found is not None
    return Token(*found)


def refuse_a_break(old: Token, new: Token, forks: Mapping[int, str] | None = None) -> None:
    """Raises UsageError if `new` cannot be later in the same history as `old`: transaction numbers then do
    not show what has changed. `forks`: the positions where the server's history left earlier timelines
    (`lakehouse.timeline`); None if unknown."""
    if None not in (old.system_identifier, new.system_identifier) and (
        old.system_identifier != new.system_identifier
    ):
        what = f"this lake was taken from another server (system identifier {old.system_identifier})"
        hint = f"this server is {new.system_identifier}: check --dsn; if it is correct, "
    elif None not in (old.database, new.database) and old.database != new.database:
        what = f"this lake was taken from another database of the server (oid {old.database})"
        hint = f"this database is {new.database}: check --dsn; if it is correct, "
    elif (
        old.timeline is not None
        and new.timeline is not None
        and old.timeline != new.timeline
        and not (forks and keeps(forks, old.timeline, old.lsn))
    ):
        what = f"the server changed from timeline {old.timeline} to {new.timeline}"
        hint = _why_it_is_not_the_same_history(old, old.timeline, forks)
    elif new.xmax < old.xmax or position(new.lsn) < position(old.lsn):
        what = "the server's history is older than the lake"
        hint = f"it was restored to a time before the newest epoch ({old.taken_at}): "
    else:
        return
    raise UsageError(f"{what}; {hint}run `ridelake snapshot` to publish all rows again")


def refuse_another_history(connection: Connection[TupleRow], since: Token) -> None:
    """Raises UsageError if this server cannot be later in the same history as `since`, or is a standby."""
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
            "a standby was promoted or a backup restored, and this role may not read its history "
            "(pg_read_file), so the server may lack rows that the lake has: connect as a role that may, or "
        )
    if left not in forks:
        return f"its history does not include timeline {left}, because an older backup was restored: "
    return (
        f"it left timeline {left} at {forks[left]}, before the newest epoch's position {old.lsn} "
        f"({old.taken_at}), so the promoted standby may lack rows that the lake has: "
    )


def wait_until_flushed(connection: Connection[TupleRow], lsn: str) -> None:
    """Wait until the WAL is flushed up to `lsn`. With synchronous_commit off, a snapshot shows rows that are
    not flushed; a crash would undo them in Postgres but not in the lake. Raises RidelakeError after
    FLUSH_SECONDS_MAX."""
    query = files("lakehouse").joinpath("flushed.sql").read_bytes()
    give_up = time.monotonic() + FLUSH_SECONDS_MAX
    while connection.execute(query, {"lsn": lsn}).fetchone() != (True,):
        if time.monotonic() > give_up:
            raise RidelakeError(
                f"Postgres did not flush its WAL within {FLUSH_SECONDS_MAX:.0f} s, so the epoch was not "
                "published: check the server, then run the command again"
            )
        time.sleep(0.005)
