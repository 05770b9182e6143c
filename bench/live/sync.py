"""The process that publishes epochs: `ridelake sync` with a pause and an interval that change while it runs,
and `ridelake verify` on demand.

For a store that a DSN names it reads only: nothing is installed, and the maintenance of the lake does not
delete tombstones.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from bench.live.freshness import has_moved_on
from bench.live.worker import WorkerChannel, one_line
from lakehouse.capture.sync import SyncResult, sync_repeatedly
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from lakehouse.verify import verify_now
from oltp.store import Store, has_tracking
from ridelake.errors import CannotConnect, RidelakeError
from ridelake.queries import load_queries
from ridelake.settings import LakeAddress

QUERIES = load_queries("bench.live")

LAG_SECONDS = 0.25  # how often the lag is measured
RETRY_SECONDS = 2.0  # after an error that `sync` reports and ends with
ROWS_SHOWN = 3  # of the tables of `verify` that differ

NOT_VERIFIED: dict[str, Any] = {"state": "idle", "epoch": None, "text": "", "at": None}


def work(channel: WorkerChannel, store: Store, address: LakeAddress, embedded: bool) -> None:
    """Publish epochs until the channel is stopped."""
    EndlessSync(channel, store, Lake.create(address), embedded).run()


class SyncStopped(Exception):
    """The channel was stopped while waiting for the next epoch."""


class EndlessSync:
    """The settings, the last epoch, and the part `sync` of the state."""

    def __init__(self, channel: WorkerChannel, store: Store, lake: Lake, embedded: bool) -> None:
        self._channel, self._store, self._lake, self._embedded = channel, store, lake, embedded
        self._paused, self._every_seconds = True, 1.0  # until the first command
        self._changed = threading.Condition()
        self._epoch: Epoch | None = None
        self._current_at = 0.0  # when the lake was last known to equal the store
        self._of_epoch: dict[str, Any] = {}
        self._trouble: str | None = None
        self._lag_seconds: float | None = None
        self._table_bytes: int | None = None
        self._verified = NOT_VERIFIED
        self._verifying = threading.Lock()

    def run(self) -> None:
        self._note_epoch(self._lake.newest(), None)
        self._channel.listen(self._obey, self._wake)  # the first command also checks the tracking
        threading.Thread(target=self._measure, name="lag", daemon=True).start()
        while not self._channel.stopped.is_set():
            try:
                self._wait(0.0)
                for synced in sync_repeatedly(
                    0, self._store, self._lake, wait=self._wait, tidy=self._embedded
                ):
                    self._note(synced)
            except SyncStopped:
                return
            except (RidelakeError, psycopg.Error) as error:
                self._trouble = one_line(error)
                self._channel.stopped.wait(RETRY_SECONDS)

    def _why_not(self) -> str | None:
        """Why the tables cannot be followed without a change in the database; None if they can."""
        if self._embedded:
            return None
        try:
            with closing(self._store.connect()) as connection:
                return untracked(connection, self._epoch)
        except (RidelakeError, psycopg.Error) as error:
            return one_line(error)

    def _obey(self, name: str, arguments: dict[str, Any]) -> None:
        if name == "verify" and self._verifying.acquire(blocking=False):
            threading.Thread(target=self._verify, name="verify", daemon=True).start()
        elif name == "set":
            paused = arguments.get("paused", self._paused)
            self._trouble = self._why_not() if not paused else None
            with self._changed:
                self._paused = paused or self._trouble is not None
                self._every_seconds = arguments.get("every_seconds", self._every_seconds)
                self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _wait(self, seconds_min: float) -> None:
        """Wait until the next epoch is due: after the interval, not while paused, and again from the start if
        the interval changes. Raises SyncStopped when the channel is stopped."""
        began = time.monotonic()
        with self._changed:
            while not self._channel.stopped.is_set():
                left = began + max(self._every_seconds, seconds_min) - time.monotonic()
                if not self._paused and left <= 0:
                    return
                self._changed.wait(None if self._paused else left)
        raise SyncStopped

    def _note(self, synced: SyncResult) -> None:
        self._trouble = synced.trouble.partition("; `ridelake sync`")[0] if synced.trouble else None
        if synced.is_new:
            self._note_epoch(synced.epoch, synced.seconds)
        elif synced.epoch is not None:
            self._current_at = time.time()
        self._report()

    def _note_epoch(self, epoch: Epoch | None, seconds: float | None) -> None:
        if epoch is None:
            return
        known = {file.location for file in self._epoch.stored_files} if self._epoch else set()
        new = [file for file in epoch.stored_files if file.location not in known]
        self._of_epoch = {
            "epoch": epoch.number,
            "rows": epoch.changed + epoch.deleted,
            "bytes": sum(file.bytes for file in new) if known else epoch.bytes,
            "lake_bytes": epoch.bytes,
            "epoch_seconds": round(seconds if seconds is not None else epoch.seconds, 3),
        }
        self._epoch = epoch

    def _measure(self) -> None:
        """Measure the lag while an epoch is published, too."""
        while not self._channel.stopped.is_set():
            with suppress(CannotConnect, psycopg.Error), closing(self._store.connect()) as found:
                while not self._channel.stopped.wait(LAG_SECONDS):
                    self._measure_once(found)
                    self._report()
            self._report()
            self._channel.stopped.wait(LAG_SECONDS)

    def _measure_once(self, connection: Connection[TupleRow]) -> None:
        epoch = self._epoch
        if epoch is None:
            return
        age = (datetime.now(UTC) - datetime.fromisoformat(epoch.token.taken_at)).total_seconds()
        age = min(age, time.time() - self._current_at)
        self._lag_seconds = round(max(age, 0.0), 3) if has_moved_on(connection, epoch) else 0.0
        relations = [table.relation for table in epoch.tables.values()]
        row = connection.execute(QUERIES["tables_bytes"], {"relations": relations}).fetchone()
        self._table_bytes = row[0] if row is not None else None

    def _report(self) -> None:
        nothing = dict.fromkeys(("epoch", "rows", "bytes", "lake_bytes", "epoch_seconds"))
        self._channel.report(
            "sync",
            nothing
            | self._of_epoch
            | {
                "state": "paused" if self._paused else "running",
                "every_seconds": self._every_seconds,
                "lag_seconds": self._lag_seconds,
                "table_bytes": self._table_bytes,
                "trouble": self._trouble,
                "verify": self._verified,
            },
        )

    def _verify(self) -> None:
        self._verified = NOT_VERIFIED | {"state": "running", "text": "comparing all rows with Postgres"}
        try:
            found = verify_now(self._store, self._lake)
            state, number = ("equal" if found.equal else "differs"), found.epoch
            if found.equal:
                text = f"epoch {number} equals Postgres: {found.rows:,} rows compared"
            else:
                text = differences([one.table for one in found.comparisons if not one.equal], number)
        except (RidelakeError, psycopg.Error) as error:
            state, number, text = "failed", None, one_line(error)
        finally:
            self._verifying.release()
        self._verified = {"state": state, "epoch": number, "text": text, "at": round(time.time(), 3)}
        self._report()


def differences(tables: Sequence[str], number: int) -> str:
    shown = ", ".join(tables[:ROWS_SHOWN])
    return f"epoch {number} differs from Postgres in {shown}: run `ridelake verify` to list the rows"


def untracked(connection: Connection[TupleRow], epoch: Epoch | None) -> str | None:
    """What to run first so that the tables of the epoch can be followed by their changes; None if they can be
    followed. Without an epoch, the tables of the ride store."""
    if epoch is None:
        if connection.execute("SELECT to_regclass('ridelake.schema_version')").fetchone() == (None,):
            return (
                "there is no epoch yet: run `ridelake track SCHEMA.NAME` and `ridelake sync --once --table "
                "SCHEMA.NAME`"
            )
        return None if has_tracking(connection) else "the ride store is not tracked: run `ridelake sync`"
    relations = [table.relation for table in epoch.tables.values()]
    query = QUERIES["tracked"]
    if has_tracking(connection) and connection.execute(query, {"relations": relations}).fetchone() == (True,):
        return None
    return (
        "some tables of the lake are not tracked, so that each epoch would copy them completely: run "
        "`ridelake track SCHEMA.NAME`"
    )
