"""The report of `ridelake status`. It does not start or create anything."""

from collections.abc import Collection
from datetime import UTC, datetime
from shlex import quote
from typing import Any

from psycopg import Connection, errors
from psycopg.rows import TupleRow, dict_row

from lakehouse.table.epoch import Epoch
from lakehouse.table.published import read_epochs
from oltp.cluster.server import Cluster
from oltp.store import Store, has_tracking, no_access, open_store
from ridelake.queries import load_queries
from ridelake.settings import Settings

QUERIES = load_queries("lakehouse.capture")


def read_status(settings: Settings) -> dict[str, Any]:
    """The report, flat except for `tables`. An embedded server that is stopped is not started."""
    report: dict[str, Any] = {"home": str(settings.home), "lake": settings.lake.root}
    cluster = Cluster(settings.home / "postgres")
    if settings.dsn is not None:
        report["server"] = "at the DSN"
    elif cluster.server_pid() is None:
        report["server"] = "stopped" if cluster.data.exists() else "not created yet"
    else:
        held = "kept running by `ridelake up`" if cluster.held.exists() else "running while commands use it"
        report["server"] = f"embedded, {held}"
    epochs = read_epochs(settings.lake, limit=1)
    epoch = epochs[0] if epochs else None
    tracked: set[int] | None = None
    if settings.dsn is not None or cluster.server_pid() is not None:
        with open_store(settings, install=False) as store, store.connect() as connection:
            report |= _of_server(store, connection)
            if epoch is not None and not epoch.stores:
                report |= _behind(store, connection, epoch)
                tracked = _tracked(connection, epoch)
    report["newest_epoch"] = epoch.number if epoch else None
    if epoch is not None:
        report["epoch_published_at"] = epoch.published_at.isoformat(timespec="seconds")
        report["epoch_rows"] = epoch.rows
        report["epoch_bytes"] = epoch.bytes
        report |= {f"age_seconds_of_{name}": age for name, age in _ages(epoch).items()}
        known = tracked if report.get("same_server") else None  # oids are valid on the same server only
        report["tables"] = [
            {
                "table": f"{one.store}: {one.source}" if one.store else one.source,
                "rows": one.rows,
                "tracked": None if known is None else one.relation in known,
            }
            for one in epoch.tables.values()
        ]
    if epoch is not None and (missing := epoch.missing()):
        report["not_in_epoch"] = "; ".join(missing)
    keyless = {one.source for one in epoch.tables.values() if not one.key} if epoch else set()
    report["next"] = _next_of_stores(epoch) if epoch and epoch.stores else _next(report, keyless)
    return report


def _ages(epoch: Epoch) -> dict[str, float]:
    """In a lake of several stores: the seconds since the snapshot of each, by the clock of this machine."""
    now = datetime.now(UTC)
    taken = {name: datetime.fromisoformat(epoch.tokens[name].taken_at) for name in epoch.stores}
    return {name: round(max(0.0, (now - at).total_seconds()), 1) for name, at in taken.items()}


def _next_of_stores(epoch: Epoch) -> str:
    given = " ".join(f"--source {name}=DSN" for name in epoch.stores)
    return f"run `ridelake sync {given}`, or `ridelake verify {given}` to compare"


def _of_server(store: Store, connection: Connection[TupleRow]) -> dict[str, Any]:
    state = store.schema_state()
    cursor = connection.cursor(row_factory=dict_row)
    if state == "installed":
        try:
            found = cursor.execute(QUERIES["status"]).fetchone() or {}
            return {"ride_store": "installed", **found}
        except errors.InsufficientPrivilege:
            state = "no access"
    ride_store = "none" if state == "missing" else no_access(connection.info.user)
    return {"ride_store": ride_store, **(cursor.execute(QUERIES["server_status"]).fetchone() or {})}


def _behind(store: Store, connection: Connection[TupleRow], epoch: Epoch) -> dict[str, Any]:
    """Transactions and seconds since the epoch. Transactions of all databases of the server are counted, so
    the number is an upper bound."""
    now = connection.execute(QUERIES["behind"]).fetchone()
    assert now is not None
    database, clock, xmax = now
    known = store.system_identifier()
    same = epoch.token.system_identifier in (None, known) or known is None
    same = same and epoch.token.database in (None, database)
    if not same:
        return {"same_server": False, "transactions_behind": None, "seconds_behind": None}
    transactions = max(0, int(xmax) - epoch.token.xmax) + len(epoch.token.xip)
    taken_at = datetime.fromisoformat(epoch.token.taken_at)
    seconds = max(0.0, (clock.astimezone(UTC) - taken_at).total_seconds()) if transactions else 0.0
    return {"same_server": True, "transactions_behind": transactions, "seconds_behind": round(seconds, 1)}


def _tracked(connection: Connection[TupleRow], epoch: Epoch) -> set[int]:
    if not has_tracking(connection):
        return set()
    relations = [table.relation for table in epoch.tables.values()]
    tracked = load_queries("lakehouse.source")["tracked"]
    rows = connection.execute(tracked, {"relations": relations}).fetchall()
    return {row[0] for row in rows if row[1] is not None}


def _next(report: dict[str, Any], keyless: Collection[str]) -> str:
    missing = report.get("ride_store", "none") == "none"
    if report["newest_epoch"] is None:
        if report["server"] == "stopped":
            return "start the server with `ridelake up`, or publish the first epoch with `ridelake snapshot`"
        if missing and report["server"] == "at the DSN":
            return "run `ridelake seed`, or `ridelake snapshot --table SCHEMA.NAME` for a table of your own"
        if missing:
            return "run `ridelake seed`"
        if report["ride_store"] != "installed":
            return "run `ridelake snapshot --table SCHEMA.NAME` for a table of your own"
        return "run `ridelake snapshot`"
    if "same_server" not in report:
        return "start the server with `ridelake up` to see how far the lake is behind"
    if not report["same_server"]:
        return "this lake was taken from another server or database: correct --dsn or --lake"
    untracked = [
        one["table"] for one in report["tables"] if one["tracked"] is False and one["table"] not in keyless
    ]
    track = f"; `ridelake track {quote(untracked[0])}` makes its epochs incremental" if untracked else ""
    if report["transactions_behind"]:
        return f"run `ridelake sync --once`{track}"
    return f"nothing: no transaction since the newest epoch{track}"
