"""What is there, without starting or counting anything that is not."""

from importlib.resources import files
from typing import Any

from psycopg.rows import dict_row

from lakehouse.published import read_epochs
from oltp.cluster import Cluster
from oltp.store import open_store
from ridelake.settings import Settings


def status_of(settings: Settings) -> dict[str, Any]:
    """One flat report. An embedded server that does not run is not started to be asked."""
    report: dict[str, Any] = {"home": str(settings.home), "lake": settings.lake.root}
    cluster = Cluster(settings.home / "postgres")
    if settings.dsn is not None:
        report["server"] = "at the DSN"
    elif cluster.server_pid() is None:
        report["server"] = "stopped" if cluster.data.exists() else "not made yet"
    else:
        held = "held by `ridelake up`" if cluster.held.exists() else "running for its users"
        report["server"] = f"embedded, {held}"
    if settings.dsn is not None or cluster.server_pid() is not None:
        with open_store(settings, install=False) as store, store.connect() as connection:
            theirs = connection.execute("SELECT to_regclass('ridelake.rides')").fetchone() == (None,)
            name = "server_status.sql" if theirs else "status.sql"
            query = files("lakehouse").joinpath(name).read_bytes()
            report |= connection.cursor(row_factory=dict_row).execute(query).fetchone() or {}
    epochs = read_epochs(settings.lake, limit=1)
    report["newest_epoch"] = epochs[0].number if epochs else None
    if epochs:
        report["epoch_published_at"] = epochs[0].published_at.isoformat(timespec="seconds")
        report["epoch_rows"] = epochs[0].rows
        report["epoch_bytes"] = epochs[0].bytes
        if missing := epochs[0].missing():
            report["not_in_epoch"] = "; ".join(missing)
    return report
