"""Repeated incremental epochs, with regular maintenance."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Unpack

import psycopg

from lakehouse.capture.maintain import maintain
from lakehouse.capture.publish import PublishOptions, publish_changes
from lakehouse.source.copy.throttle import SnapshotTooOld
from lakehouse.table.catalog import CommitConflict, Lake
from lakehouse.table.columns import TableNotCopied
from lakehouse.table.epoch import Epoch
from oltp.store import Store
from ridelake.errors import CannotConnect

# Often enough to keep small files and old epochs few, and rarely enough that its cost is negligible. Every
# epoch reads the pages of a bulk load again, until maintenance or VACUUM has summarized them (BRIN).
MAINTAIN_EVERY_EPOCHS = 50
MAINTAIN_EVERY_ROWS = 200_000

# With `--every 0`, the pause after an iteration without changes, and after a failed iteration.
IDLE_SECONDS = 0.05
RETRY_SECONDS_MIN = 0.2


@dataclass(frozen=True, slots=True, repr=False)
class SyncResult:
    """The result of one iteration. `is_new`: an epoch was published, because rows had changed. `lag_seconds`:
    the maximum age of the published data. `trouble`: why no epoch was published; the next iteration retries.
    `compared`: the rows were compared with Postgres."""

    epoch: Epoch | None
    is_new: bool
    seconds: float
    lag_seconds: float | None
    trouble: str | None = None
    compared: bool = False

    def __repr__(self) -> str:
        return f"<SyncResult {self.line()}>"

    def line(self) -> str:
        if self.trouble is not None:
            return self.trouble
        assert self.epoch is not None
        if not self.is_new:
            compared = ", compared row by row" if self.compared else ""
            return f"epoch {self.epoch.number} is up to date{compared}: nothing has changed"
        return (
            f"epoch {self.epoch.number}: {self.epoch.changed:,} rows changed, "
            f"{self.epoch.deleted:,} deleted; {self.epoch.rows:,} rows in {len(self.epoch.files)} files, "
            f"{self.seconds:.2f} s, {self.lag_seconds:.2f} s behind"
            + (", equal to Postgres" if self.epoch.verified else "")
        )

    def report(self) -> dict[str, Any]:
        """The document of `--json`, without the tables, which `ridelake epochs --json` lists."""
        report = {
            "new": self.is_new, "seconds": round(self.seconds, 4), "lag_seconds": self.lag_seconds,
            "trouble": self.trouble,
        }  # fmt: skip
        if self.epoch is not None:
            of_epoch = self.epoch.report()
            del of_epoch["tables"]
            report = of_epoch | report
        return report


def sync_once(store: Store, lake: Lake, **options: Unpack[PublishOptions]) -> SyncResult:
    """Publish one epoch. Raises as `publish_changes` does."""
    started = time.perf_counter()
    taken = publish_changes(store, lake, **options)
    seen = datetime.fromisoformat(taken.epoch.token.taken_at)
    lag = (datetime.now(UTC) - seen).total_seconds() if taken.is_new else 0.0
    seconds = time.perf_counter() - started
    compared = options.get("verify", False)
    return SyncResult(taken.epoch, taken.is_new, seconds, round(lag, 4), compared=compared)


def sync_repeatedly(
    seconds: float,
    store: Store,
    lake: Lake,
    *,
    wait: Callable[[float], object] = time.sleep,
    tidy: bool = True,
    **options: Unpack[PublishOptions],
) -> Iterator[SyncResult]:
    """Publish an epoch every `seconds`, without end. An iteration yields no epoch if another process
    published first, if Postgres is unreachable, if no table can be copied, or if its snapshot is too old.
    Permanent errors (a standby, the history of another server, a folder that cannot be written) are raised,
    as by `publish_changes`. `wait` is called with the seconds until the next iteration. `tidy` False: the
    maintenance changes nothing in Postgres."""
    new_epochs = changed_rows = 0  # since the last maintenance
    while True:
        due = time.monotonic() + seconds
        started = time.perf_counter()
        try:
            synced = sync_once(store, lake, **options)
            # The tables are in the lake now. A table that is dropped later is not an error.
            for name in ("tables", "without", "selection"):
                options.pop(name, None)  # type: ignore[misc]
        except (CommitConflict, CannotConnect, TableNotCopied, SnapshotTooOld) as error:
            trouble = str(error).removesuffix("; run the command again")
            if isinstance(error, CommitConflict):
                trouble = "another process published an epoch first"
            due = max(due, time.monotonic() + RETRY_SECONDS_MIN)
            trouble += f"; `ridelake sync` retries every {max(seconds, RETRY_SECONDS_MIN):g} s"
            synced = SyncResult(None, False, time.perf_counter() - started, None, trouble)
        yield synced
        if synced.is_new and synced.epoch:
            new_epochs += 1
            changed_rows += _rows_by_changes(synced.epoch)
            if new_epochs >= MAINTAIN_EVERY_EPOCHS or changed_rows >= MAINTAIN_EVERY_ROWS:
                new_epochs = changed_rows = 0
                # the next maintenance run will do it
                with suppress(CommitConflict, CannotConnect, psycopg.OperationalError):
                    maintain(lake, store, tidy=tidy)
        wait(max(0.0 if synced.is_new else IDLE_SECONDS, due - time.monotonic()))


def _rows_by_changes(epoch: Epoch) -> int:
    """The inserted and updated rows of tables that were not copied completely."""
    return sum(table.changed for table in epoch.tables.values() if table.changed < table.rows)
