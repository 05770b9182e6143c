"""One snapshot of Postgres: its token, its tables, and the conditions under which it is refused.

    timeline 1  ──────────●─────────────X            ● the WAL position of the newest epoch
                                └── timeline 2 ──>   the fork; if it is before ●, the epoch may have rows that
                                                     this server never had

A promotion starts a new timeline. Its history file has the position at which each earlier timeline was left.
All rows of an epoch are in the WAL before the position in its token. The epoch therefore belongs to the new
history if and only if that position is not after the fork. Transaction numbers continue from there, so
incremental epochs also continue.

The order matters. The tables are locked before the snapshot is taken, so that none is truncated in between.
Waiting for one of them while others are held could fail a migration with a deadlock, so all are released
before the next attempt. The token is read by the first statement of the snapshot. The table definitions are
read again inside the snapshot, because a table may have been altered before it was locked. LOCK TABLE does
not accept materialized views and foreign tables, and needs more rights for views, so these are locked by a
query after the snapshot was taken.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from psycopg import Connection, IsolationLevel, errors
from psycopg.rows import TupleRow
from psycopg.sql import SQL

from lakehouse.source.copy import computed_row_errors, export_snapshot
from lakehouse.source.tables import TableSource, read_sources, table_errors
from lakehouse.table.columns import RowsNotComputed, TableNotCopied
from lakehouse.table.epoch import DEFAULT_FORMS, SnapshotToken, ValueForms
from oltp.store import Store, transaction
from ridelake.errors import RidelakeError, UsageError, first_line
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.source")

# "1\t0/3000148\tno recovery target specified": the timeline that was left, and the position.
LEFT = re.compile(r"^\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)", re.MULTILINE)

# Checked in a separate query, because Postgres checks the privilege before it executes a CASE. The variant
# with four arguments also exists in Postgres 15. Its last argument: return null for a missing file.
MAY_READ = b"SELECT has_function_privilege('pg_read_file(text, bigint, bigint, boolean)', 'execute')"
READ = b"SELECT pg_read_file(%s, 0, 1048576, true)"

RUN_AGAIN = "run the command again"

PAGE_BYTES = 8192
PAGE_HEADER_BYTES_MAX = 40  # the header of the first page of a segment; 24 otherwise


def read_forks(connection: Connection[TupleRow], timeline: int) -> dict[int, str] | None:
    """The position at which the history left each timeline before `timeline`; None if this role may not read
    it."""
    if connection.execute(MAY_READ).fetchone() != (True,):
        return None
    row = connection.execute(READ, (f"pg_wal/{timeline:08X}.history",)).fetchone()
    if row is None or row[0] is None:
        return None
    return {int(number): at for number, at in LEFT.findall(row[0])}


def history_contains(forks: Mapping[int, str], timeline: int, lsn: str) -> bool:
    """Whether the WAL of `timeline` up to `lsn` is in the history whose timeline forks are `forks`."""
    fork = forks.get(timeline)
    if fork is None:
        return False
    past = wal_position(lsn) - wal_position(fork)
    # At the end of a page a token's position is after the header of the next page, which has no record.
    return past <= 0 or (wal_position(fork) % PAGE_BYTES == 0 and past <= PAGE_HEADER_BYTES_MAX)


def wal_position(lsn: str) -> int:
    """The LSN `1/A0` as an integer, in bytes."""
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)


# Pauses between the attempts to lock all tables, and the time after which the epoch fails.
LOCK_PAUSE_SECONDS_MIN = 0.05
LOCK_PAUSE_SECONDS_MAX = 0.5
LOCK_SECONDS_MAX = 30.0

# The transaction holds locks, so its other waits are short: a session that waits for one of them may hold the
# lock that this one waits for. Postgres would cancel either of them after deadlock_timeout, 1 s by default.
LIMIT_LOCK_WAIT = b"SET LOCAL lock_timeout = '100ms'"
LIMIT_LOCK_WAIT_OF_OTHERS = b"SET LOCAL lock_timeout = '1ms'"  # there is no NOWAIT

# The WAL writer flushes five times a second; a server that needs longer than this has a problem.
FLUSH_SECONDS_MAX = 30.0


@dataclass(slots=True)
class SourceSnapshot:
    """An open transaction, its token and its tables. `failures`: why some of them cannot be read, by oid.
    `name`: the exported snapshot, which other connections can import."""

    store: Store
    connection: Connection[TupleRow]
    token: SnapshotToken
    sources: Sequence[TableSource]
    failures: Mapping[int, RowsNotComputed]
    _name: str | None = None

    @property
    def name(self) -> str:
        self._name = self._name or export_snapshot(self.connection)
        return self._name


@contextmanager
def open_source_snapshot(
    store: Store,
    connection: Connection[TupleRow],
    tables: Sequence[str],
    since: SnapshotToken | None = None,
    without: Sequence[str] = (),
    forms: ValueForms = DEFAULT_FORMS,
    names: Mapping[str, str] | None = None,
    not_awaited: Collection[str] = (),
) -> Iterator[SourceSnapshot]:
    """A snapshot that is open until the end of the block. `without`: columns to exclude, as TABLE.COLUMN.
    `forms`: the chosen forms of values. `names`: of tables in the lake, by
    qualified name. `not_awaited`: views, materialized views and foreign tables that are in `failures` at once
    if another session locks them; the others after LOCK_SECONDS_MAX.

    Raises TableNotCopied if a table was dropped or attached concurrently, or another session
    locks one for longer than LOCK_SECONDS_MAX; UsageError if the server
    cannot be the source of a lake, or cannot be later in the history of `since`; BadInput for a table that
    does not exist."""
    check_source(connection)
    with table_errors():
        named = read_sources(connection, tables, without, forms, names)
        check_no_hidden_rows(connection, named)

    def begin(in_time: bool) -> SourceSnapshot:
        lock_tables(connection, named)
        token = read_token(connection)
        if since is not None:
            check_same_history(since, token, _forks(connection, since, token))
        sources = read_sources(connection, tables, without, forms, names)
        _check_partitions(named, sources)
        skip = not_awaited if in_time else [source.qualified for source in sources]
        failures = _lock_others(connection, sources, skip)
        return SourceSnapshot(store, connection, token, sources, failures)

    with table_errors(), _locking_transaction(connection, begin) as snapshot:
        yield snapshot


def check_source(connection: Connection[TupleRow]) -> None:
    """Check that epochs can be read from this server. Raises UsageError for a standby and for a database
    without an encoding. On a standby pg_current_snapshot() does not include the transactions that run on the
    primary, so the token would be wrong. In a database without an encoding, text is arbitrary bytes."""
    found = connection.execute("SELECT pg_is_in_recovery(), getdatabaseencoding()").fetchone()
    is_standby, encoding = found or (None, None)
    if encoding == "SQL_ASCII":
        raise UsageError(
            "the database has the encoding SQL_ASCII, so its text cannot be decoded reliably: copy it into a "
            "UTF-8 database with pg_dump --encoding"
        )
    if is_standby:
        raise UsageError("the server is a standby, whose snapshots are not exact: point --dsn at the primary")


def check_no_hidden_rows(connection: Connection[TupleRow], tables: Sequence[TableSource]) -> None:
    """Check that this role sees all rows. Raises UsageError if row-level security hides rows from this role:
    an epoch must have all rows, and `--verify` would not see hidden rows either."""
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


@contextmanager
def _locking_transaction(
    connection: Connection[TupleRow], begin: Callable[[bool], SourceSnapshot]
) -> Iterator[SourceSnapshot]:
    """A transaction that `begin` has begun. If a table is locked by another session, all locks are released
    before the next attempt. `begin` is called with False after LOCK_SECONDS_MAX, for the last time. Raises
    TableNotCopied then."""
    give_up, pause = time.monotonic() + LOCK_SECONDS_MAX, LOCK_PAUSE_SECONDS_MIN
    with ExitStack() as stack:
        while True:
            in_time = time.monotonic() < give_up
            try:
                with ExitStack() as attempt:
                    attempt.enter_context(
                        transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True)
                    )
                    connection.execute(LIMIT_LOCK_WAIT)
                    snapshot = begin(in_time)
                    stack.enter_context(attempt.pop_all())
                break
            except errors.LockNotAvailable as error:
                if not in_time:
                    raise TableNotCopied(
                        f"cannot lock the tables within {LOCK_SECONDS_MAX:g} s ({first_line(error)}): "
                        f"another session alters one of them, or waits to; {RUN_AGAIN}"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, LOCK_PAUSE_SECONDS_MAX)
        yield snapshot


def lock_tables(connection: Connection[TupleRow], tables: Sequence[TableSource]) -> None:
    """Lock against TRUNCATE and ALTER, before the snapshot is taken: a table that is truncated between the
    snapshot and the read would be read as empty. Raises LockNotAvailable instead of waiting."""
    if names := [table.identifier for table in tables if table.can_be_locked]:
        query = SQL("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT")
        connection.execute(query.format(SQL(", ").join(names)))


def _check_partitions(locked: Sequence[TableSource], sources: Sequence[TableSource]) -> None:
    """Raises TableNotCopied for a partition that was attached before the snapshot was taken, and is not
    locked."""
    before = {one.relation for table in locked for one in table.partitions}
    if late := [one for table in sources for one in table.partitions if one.relation not in before]:
        raise TableNotCopied(f"partition {late[0].name} was attached during the snapshot; {RUN_AGAIN}")


def _lock_others(
    connection: Connection[TupleRow], sources: Sequence[TableSource], not_awaited: Collection[str]
) -> dict[int, RowsNotComputed]:
    """Lock what LOCK TABLE does not accept, by a query without rows, which also locks what a view reads.
    Returns why tables cannot be read, by oid. Raises LockNotAvailable for a table that is locked by another
    session, or was refreshed since the snapshot and would be read as empty, unless it is `not_awaited`."""
    failures: dict[int, RowsNotComputed] = {}
    others = [source for source in sources if not source.can_be_locked]
    if others:
        connection.execute(LIMIT_LOCK_WAIT_OF_OTHERS)
    for source in others:
        try:
            with computed_row_errors(connection, source, keep_locks=True):
                connection.execute(SQL("SELECT FROM {} LIMIT 0").format(source.identifier))
                found = connection.execute(QUERIES["is_refreshed"], (source.relation,)).fetchone()
                if source.kind == "m" and found == (True,):
                    raise errors.LockNotAvailable(f"{source.qualified} was refreshed during the snapshot")
        except RowsNotComputed as failure:
            if failure.is_locked and source.qualified not in not_awaited:
                raise errors.LockNotAvailable(f"{source.qualified} is locked") from failure
            failures[source.relation] = failure
    if others:
        connection.execute(LIMIT_LOCK_WAIT)
    return failures


def read_token(connection: Connection[TupleRow]) -> SnapshotToken:
    """Must be the first query of a REPEATABLE READ transaction, which takes the snapshot."""
    found = connection.execute(QUERIES["token"]).fetchone()
    assert found is not None
    return SnapshotToken(*found)


def check_same_history(
    old: SnapshotToken, new: SnapshotToken, forks: Mapping[int, str] | None = None
) -> None:
    """Check that `new` continues the history of `old`. Raises UsageError if `new` cannot be later in the same
    history as `old`: transaction IDs then do not show what has changed. `forks`: the LSNs at which the
    server's history left earlier timelines (`read_forks`); None if unknown."""
    if other := _other_database(old, new):
        what, hint = other, "if it is correct, "
    elif (
        old.timeline is not None
        and new.timeline is not None
        and old.timeline != new.timeline
        and not (forks and history_contains(forks, old.timeline, old.lsn))
    ):
        what = f"the server changed from timeline {old.timeline} to {new.timeline}"
        hint = _why_it_is_not_the_same_history(old, old.timeline, forks)
    elif new.xmax < old.xmax or wal_position(new.lsn) < wal_position(old.lsn):
        what = "the server's history is older than the lake"
        hint = f"it was restored to a time before the newest epoch ({old.taken_at}): "
    else:
        return
    raise UsageError(f"{what}; {hint}run `ridelake snapshot` to publish all rows again")


def check_same_database(connection: Connection[TupleRow], token: SnapshotToken) -> None:
    """Check that the connection is to the database of the token. Raises UsageError."""
    with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
        if other := _other_database(token, read_token(connection)):
            raise UsageError(other)


def _other_database(old: SnapshotToken, new: SnapshotToken) -> str:
    """How `new` differs if it is of another server or database than `old`; otherwise empty."""
    if None not in (old.system_identifier, new.system_identifier) and (
        old.system_identifier != new.system_identifier
    ):
        return (
            f"this lake was taken from another server (system identifier {old.system_identifier}); "
            f"this server is {new.system_identifier}: check --dsn"
        )
    if None not in (old.database, new.database) and old.database != new.database:
        return (
            f"this lake was taken from another database of the server (oid {old.database}); "
            f"this database is {new.database}: check --dsn"
        )
    return ""


def check_server_history(connection: Connection[TupleRow], since: SnapshotToken) -> None:
    """Check that this server continues the history of `since`. Raises UsageError if this server cannot be
    later in the same history as `since`, or is a standby."""
    check_source(connection)
    with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
        token = read_token(connection)
        check_same_history(since, token, _forks(connection, since, token))


def _forks(connection: Connection[TupleRow], old: SnapshotToken, new: SnapshotToken) -> dict[int, str] | None:
    if new.timeline is None or new.timeline == old.timeline:
        return None
    return read_forks(connection, new.timeline)


def _why_it_is_not_the_same_history(old: SnapshotToken, left: int, forks: Mapping[int, str] | None) -> str:
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
    query = QUERIES["flushed"]
    give_up = time.monotonic() + FLUSH_SECONDS_MAX
    while connection.execute(query, {"lsn": lsn}).fetchone() != (True,):
        if time.monotonic() > give_up:
            raise RidelakeError(
                f"Postgres did not flush its WAL within {FLUSH_SECONDS_MAX:.0f} s, so the epoch was not "
                "published: check the server, then run the command again"
            )
        time.sleep(0.005)
