"""Probes of what this role may do with the tables of the database."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg import errors

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
from oltp.store import INSTALL_LOCK, has_tracking, install_tracking, no_access
from ridelake.text import counted

NAMES_SHOWN_MAX = 3


@dataclass(frozen=True, slots=True)
class ProbedTable:
    """A user table, and what this role may do with it."""

    name: str
    readable: bool
    hidden: bool
    owned: bool
    not_heap: bool


def _tables(sessions: ProbeSessions) -> list[ProbedTable]:
    return [ProbedTable(*row) for row in execute(sessions.first, "tables").fetchall()]


def _some(names: Sequence[str]) -> str:
    shown, more = names[:NAMES_SHOWN_MAX], len(names) - NAMES_SHOWN_MAX
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def probe_tables(sessions: ProbeSessions) -> ProbeResult:
    tables, role = _tables(sessions), sessions.first.info.user
    denied = [table.name for table in tables if not table.readable]
    _, reads_all = row(sessions.first, "rights")
    if not denied:
        later = ", and on later ones (pg_read_all_data)" if reads_all else ""
        return ok(f"SELECT on all of {counted(len(tables), 'table')}{later}" if tables else "none yet")
    what = f"{len(denied):,} of {counted(len(tables), 'table')} ({_some(denied)})"
    why = f"role {role} may not read them"
    grant = f"run GRANT USAGE ON SCHEMA and GRANT SELECT ON TABLE, or GRANT pg_read_all_data TO {role}"
    if len(denied) == len(tables):
        return refused(what, why, grant)
    return without(what, f"{why}; {grant}")


def probe_row_security(sessions: ProbeSessions) -> ProbeResult:
    if hidden := [table.name for table in _tables(sessions) if table.hidden]:
        return without(
            _some(hidden),
            "row-level security hides rows from this role; connect as the owner, or as a role with BYPASSRLS",
        )
    return ok("hides no rows from this role")


def probe_heap(sessions: ProbeSessions) -> ProbeResult:
    if others := [table.name for table in _tables(sessions) if table.not_heap]:
        return without(
            f"tests of {_some(others)}",
            "their access method is not heap; use `ridelake snapshot --verify`",
        )
    return ok("all tables")


def probe_tracking(sessions: ProbeSessions) -> ProbeResult:
    """Track a table, change it, and read what was recorded."""
    first = sessions.first
    try:
        with rolled_back(first):
            first.execute("SELECT pg_advisory_xact_lock(%s)", (INSTALL_LOCK,))
            install_tracking(first)
            execute(first, "track_scratch")
            stamped, recorded = row(first, "tracked_scratch")
    except (errors.InsufficientPrivilege, errors.InvalidSchemaName) as error:
        epochs = "incremental" if has_tracking(first) else "complete"
        why = error.diag.message_primary
        if isinstance(error, errors.InvalidSchemaName):  # a search_path without USAGE has no schema
            why = "permission denied for schema ridelake_tracking"
        return without(
            f"`ridelake track` by role {first.info.user} ({why})",
            "it must own the table and the schema ridelake_tracking, or be able to create that schema; as "
            f"their owner run `ridelake track` once (for this role, epochs of tracked tables are {epochs})",
        )
    if not stamped or not recorded:
        return refused("tracking", "its triggers do not record each change", "use another server")
    tables = _tables(sessions)
    owned = sum(table.owned for table in tables)
    return ok(f"for {owned:,} of {counted(len(tables), 'table')}, which this role owns")


def probe_booking(sessions: ProbeSessions) -> ProbeResult:
    state = sessions.store.schema_state()
    creates, _ = row(sessions.first, "rights")
    if state == "no access":
        return without("booking", no_access(sessions.first.info.user))
    if state == "missing" and not creates:
        return without("booking", "this role may not create a schema; a lake of your own tables needs none")
    return ok("the ride store is installed" if state == "installed" else "`ridelake seed` creates the store")


RIGHTS_PROBES: dict[str, Callable[[ProbeSessions], ProbeResult]] = {
    "tables": probe_tables,
    "row security": probe_row_security,
    "heap": probe_heap,
    "tracking": probe_tracking,
    "booking": probe_booking,
}
