"""Probes of the features that booking, tracking and epochs use, on two sessions of ridelake."""

from collections.abc import Callable

from psycopg import IsolationLevel
from psycopg.sql import SQL, Literal

from lakehouse.source.copy import export_snapshot
from lakehouse.source.doctor.probe import (
    ProbeResult,
    ProbeSessions,
    execute,
    ok,
    refused,
    rolled_back,
    row,
    without,
)
from lakehouse.source.snapshot import read_token, wait_until_flushed
from oltp.store import transaction


def probe_snapshots(sessions: ProbeSessions) -> ProbeResult:
    """With a writer running, whose transaction a snapshot must not see, also after it has ended."""
    first, second = sessions.first, sessions.second
    with transaction(first, IsolationLevel.REPEATABLE_READ, read_only=True):
        with transaction(second):
            writer = row(second, "assign_transaction_id")[0]
            token = read_token(first)
            name = export_snapshot(first)
        with transaction(second, IsolationLevel.REPEATABLE_READ, read_only=True):
            second.execute(SQL("SET TRANSACTION SNAPSHOT {}").format(Literal(name)))
            imported = read_token(second)
        kept = read_token(first)
    with transaction(first, IsolationLevel.REPEATABLE_READ, read_only=True):
        later = read_token(first)
    if token.has_seen(writer) or not later.has_seen(writer):
        return refused(
            "pg_current_snapshot()", "it does not show which transactions are running", "use another server"
        )
    if not token.snapshot == imported.snapshot == kept.snapshot:
        return refused(
            "pg_export_snapshot()", "another session does not see the same snapshot", "use another server"
        )
    return ok("exact while a transaction is running, and shared between sessions")


def probe_page_ranges(sessions: ProbeSessions) -> ProbeResult:
    first = sessions.first
    with transaction(first, read_only=True):
        rows, before, after = row(first, "page_ranges")
        first.execute("SET LOCAL enable_seqscan = off")
        (plan,) = row(first, "explain_page_range")
    if before + after != rows:
        return refused("ranges of ctid", "they do not have all rows of a table", "use another server")
    if "Tid Range Scan" not in str(plan):
        return without("parallel reads of a large table", "this server has no scan of a range of pages")
    return ok("a large table is read by several sessions")


def probe_wal(sessions: ProbeSessions) -> ProbeResult:
    token = read_token(sessions.first)
    wait_until_flushed(sessions.first, token.lsn)
    return ok(f"flushed up to {token.lsn}")


def probe_identity(sessions: ProbeSessions) -> ProbeResult:
    identifier, history = row(sessions.first, "may_read_history")
    if not identifier:
        return without(
            "recognition of another server",
            "this role may not execute pg_control_system(); after a restore run `ridelake snapshot`",
        )
    if not history:
        return without(
            "incremental epochs across a failover",
            "this role may not execute pg_read_file(); after a promotion run `ridelake snapshot`",
        )
    return ok("another server, a restore and a promotion are recognized")


def probe_skip_locked(sessions: ProbeSessions) -> ProbeResult:
    with rolled_back(sessions.first):
        execute(sessions.first, "create_queue")
        found = row(sessions.first, "skip_locked")
    if found != (1,):
        return refused("FOR UPDATE SKIP LOCKED", "it returns another row", "use another server")
    return ok()


def probe_triggers(sessions: ProbeSessions) -> ProbeResult:
    with rolled_back(sessions.first):
        execute(sessions.first, "fire_triggers")
        fired = row(sessions.first, "fired_triggers")
    if fired != (True,):
        return refused("triggers", "they do not fire in Postgres' order", "use another server")
    return ok("fire for rows and statements, in the order of their names")


FEATURE_PROBES: dict[str, Callable[[ProbeSessions], ProbeResult]] = {
    "snapshots": probe_snapshots,
    "page ranges": probe_page_ranges,
    "WAL": probe_wal,
    "history": probe_identity,
    "SKIP LOCKED": probe_skip_locked,
    "triggers": probe_triggers,
}
