"""A connection with the required session settings, which detects commits that the standby may not have.

The settings are read back after connecting and set where they differ, because a connection pooler may drop or
refuse the start-up parameter `options`. A pooler in transaction mode is refused: session settings, advisory
locks, prepared statements and exported snapshots do not work there.

A commit is flushed on the primary first, and returns when the standby has it. pg_cancel_backend() or a
shutdown can cancel that wait. The client then receives `INSERT 0 1` as usual, with a warning that the standby
may not have the commit. A client that ignores the warning treats the commit as replicated.
"""

import logging
import random
import re
import select
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from types import MappingProxyType, TracebackType
from typing import Any, Self

import psycopg
from psycopg import Connection, OperationalError, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Diagnostic
from psycopg.pq.abc import PGconn
from psycopg.rows import RowFactory, TupleRow, tuple_row

from ridelake.errors import CannotConnect

# Every session has these, whatever the settings of the server, the database, the role or the caller's
# options.
SESSION_SETTINGS: Mapping[str, str] = MappingProxyType({
    "default_transaction_isolation": "read committed",  # a statement sees what committed while it waited
    "synchronous_commit": "on",  # a commit is on disk when it returns
    "row_security": "off",  # a query fails where a policy would hide rows
    "session_replication_role": "origin",  # triggers fire
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",  # floats as text keep every digit
    "bytea_output": "hex",
    "array_nulls": "on",  # NULL in the text of an array is a null
    "quote_all_identifiers": "off",
    # No timeouts: they would end a long session. pg_dump does the same.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
})  # fmt: skip
# Not allowed in `options`: one is unknown before Postgres 17, the other is for superusers only.
NOT_IN_OPTIONS = frozenset({"transaction_timeout", "session_replication_role"})

# A word of `options`: libpq separates words by spaces, and a backslash escapes the next character.
OPTION_WORD = re.compile(r"(?:\\.|[^\s\\])+")
OPTION_SETTING = re.compile(r"(?:-c|--)([\w.-]+)=(.*)", re.DOTALL)
OPTIONS_REFUSED = re.compile(r"startup parameter|startup option|command-line option", re.IGNORECASE)

POOLER_ROUNDS = 4
POOLER_ANSWER_SECONDS = 2.0
_SESSION_POOLERS: set[str] = set()  # addresses that were checked: each connection has its own session
# psycopg logs errors that it ignores while it closes a connection; their cause is raised and reported anyway.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

# The function that emits the warning. Messages are translated (lc_messages); names of functions are not.
CANCELLED_WAIT_IN = "SyncRepWaitForLSN"

# A commit that changes nothing. Unlike a read, it waits for the standby. When it returns, the standby has all
# WAL before it.
CONFIRM = b"SELECT pg_logical_emit_message(true, 'ridelake', '')"

# A promotion can take less than the second that psycopg's pool waits before its second attempt.
RECONNECT_SECONDS_MAX = 1.0
RECONNECT_WAIT_SECONDS = 0.03


class StoreSession(Connection[TupleRow]):
    """`unreplicated`: a commit returned before the standby had it."""

    def __init__(self, pgconn: PGconn, row_factory: RowFactory[TupleRow] = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.unreplicated = False
        self.add_notice_handler(self._listen)

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Open a connection and apply the session settings. Raises CannotConnect if a setting cannot be set,
        or if a pooler changes the server session."""
        wanted, other_words = _settings_of(conninfo)
        plain = make_conninfo(conninfo, options=other_words)
        try:
            connection = super().connect(conninfo, **options)
        except OperationalError as error:
            if not OPTIONS_REFUSED.search(str(error)):
                raise
            connection = super().connect(plain, **options)
        try:
            refuse_a_changing_session(connection, plain)
            _set_and_read_back(connection, wanted)
        except BaseException:
            connection.close()
            raise
        return connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close after an interrupt: it can leave psycopg's lock held, and a closed connection does not
        wait."""
        if error is not None and not isinstance(error, Exception):
            self.close()
        super().__exit__(kind, error, trace)

    def _listen(self, notice: Diagnostic) -> None:
        if notice.source_function == CANCELLED_WAIT_IN:
            self.unreplicated = True


class PooledStoreSession(StoreSession):
    """A session of a pool. While no server can be reached, connecting is retried for one second."""

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        give_up = time.monotonic() + RECONNECT_SECONDS_MAX
        while True:
            try:
                return super().connect(conninfo, **options)
            except OperationalError:
                if time.monotonic() > give_up:
                    raise
            time.sleep(random.uniform(0, RECONNECT_WAIT_SECONDS))


def wait_until_durable(connection: "psycopg.Connection[TupleRow]") -> None:
    """Wait until everything that is committed so far, by any session, is as durable as an acknowledged
    commit.

    Needed when a retry finds work that was already done: the wait of that commit may have been cancelled. The
    connection must be in autocommit."""
    connection.execute(CONFIRM)


def session_options(search_path: str) -> str:
    """The settings as the value of the conninfo parameter `options`."""
    settings = {"search_path": search_path, **SESSION_SETTINGS}
    escaped = {name: re.sub(r"([\\\s])", r"\\\1", value) for name, value in settings.items()}
    return " ".join(f"-c {name}={value}" for name, value in escaped.items() if name not in NOT_IN_OPTIONS)


def _settings_of(conninfo: str) -> tuple[dict[str, str], str]:
    """The settings of a session: those of `options` and SESSION_SETTINGS; and the other words of `options`,
    unchanged."""
    text = str(conninfo_to_dict(conninfo).get("options") or "")
    text = re.sub(r"(?<!\S)-c\s+", "-c", text)
    wanted, others = dict(SESSION_SETTINGS), []
    names = {name.lower(): name for name in wanted}
    for word in OPTION_WORD.findall(text):
        if found := OPTION_SETTING.fullmatch(re.sub(r"\\(.)", r"\1", word)):
            name = found[1].replace("-", "_")
            wanted[names.get(name.lower(), name)] = found[2]
        else:
            others.append(word)
    return wanted, " ".join(others)


def _set_and_read_back(connection: "Connection[TupleRow]", wanted: Mapping[str, str]) -> None:
    found = _read_settings(connection, wanted)
    # None: this version of Postgres does not have the setting.
    different = {name: value for name, value in wanted.items() if found[name] not in (value, None)}
    if not different:
        return
    set_to: dict[str, str] = {}
    for name, value in different.items():
        try:
            cursor = connection.execute("SELECT set_config(%s, %s, false)", (name, value), prepare=False)
        except errors.CantChangeRuntimeParam:  # from the caller's options, in another spelling
            continue
        except psycopg.Error as error:
            why = error.diag.message_primary or str(error)
            raise CannotConnect(_setting_refused(name, value, found[name], why)) from error
        row = cursor.fetchone()
        set_to[name] = row[0] if row else value
    now = _read_settings(connection, set_to)
    for name, value in set_to.items():
        if now[name] != value:
            why = "the setting does not last; a connection pooler may change the session"
            raise CannotConnect(_setting_refused(name, value, now[name], why))


def _read_settings(connection: "Connection[TupleRow]", names: Mapping[str, str]) -> dict[str, str | None]:
    query = "SELECT name, current_setting(name, true) FROM unnest(%s::text[]) AS s (name)"
    return dict(connection.execute(query, (list(names),), prepare=False).fetchall())


def _setting_refused(name: str, wanted: str, found: str | None, why: str) -> str:
    return (
        f"cannot use this Postgres session: {name} is {found or 'empty'} and must be {wanted} ({why}); "
        "change it for the role or the database, or connect to the server directly"
    )


def refuse_a_changing_session(connection: "Connection[TupleRow]", conninfo: str) -> None:
    """Check that each connection keeps its own server session. Raises CannotConnect if two connections do not
    keep one server process each. Runs before any setting is changed, because the change would reach sessions
    of other clients. Once per address."""
    backends = {_backend(connection)}
    if connection.pgconn.backend_pid in backends or conninfo in _SESSION_POOLERS:
        return  # a pooler reports its own number
    others: set[int] = set()
    no_second = suppress(OperationalError)  # the pooler has no second connection
    with no_second, closing(psycopg.connect(conninfo, autocommit=True)) as other:
        for _ in range(POOLER_ROUNDS):
            backend = value_in_time(other, b"SELECT pg_backend_pid()", POOLER_ANSWER_SECONDS)
            if backend is None:
                break  # the pooler waits for a session: each connection has its own
            others.add(int(backend))
            backends.add(_backend(connection))
    if len(backends) > 1 or len(others) > 1 or backends & others:
        raise CannotConnect(
            "--dsn leads to a connection pooler in transaction mode, which changes the server session between"
            " transactions: connect to the server directly, or use the pooler's session mode"
        )
    _SESSION_POOLERS.add(conninfo)


def _backend(connection: "Connection[TupleRow]") -> int:
    row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    assert row is not None
    return int(row[0])


def value_in_time(connection: "Connection[TupleRow]", query: bytes, seconds_max: float) -> bytes | None:
    """The first value of the result; None after `seconds_max` or an error. After None the
    connection cannot be used, because its answer may still arrive.

    `connection.execute` has no time limit, and a server that hangs does not check statement_timeout."""
    server, give_up = connection.pgconn, time.monotonic() + seconds_max
    server.send_query(query)
    server.flush()
    while server.is_busy():
        if not select.select([server.socket], [], [], max(0.0, give_up - time.monotonic()))[0]:
            return None
        server.consume_input()
    result = server.get_result()
    value = result.get_value(0, 0) if result is not None and result.ntuples else None
    while server.get_result() is not None:
        pass
    return value
