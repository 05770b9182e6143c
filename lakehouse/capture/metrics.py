"""Metrics of `ridelake sync --every` as a file in Prometheus' text format.

The file is for the textfile collector of node_exporter, or another program that reads the format. It is
replaced atomically after each iteration, so a reader never sees a part of it.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lakehouse.capture.sync import SyncResult
from lakehouse.table.epoch import Epoch
from ridelake.errors import UsageError

HELP = {
    "epoch_number": ("gauge", "Number of the newest epoch."),
    "epoch_rows": ("gauge", "Rows of all tables in the newest epoch."),
    "epoch_bytes": ("gauge", "Bytes of the data files of the newest epoch."),
    "tables_left_out": ("gauge", "Tables that the newest epoch leaves out."),
    "lag_seconds": ("gauge", "Age of the state of Postgres that the lake has, when this file was written."),
    "success_timestamp_seconds": ("gauge", "When the lake was last up to date with Postgres."),
    "epochs_total": ("counter", "Epochs that this process has published."),
    "rows_changed_total": ("counter", "Rows that these epochs have copied."),
    "rows_deleted_total": ("counter", "Deleted rows that these epochs have removed."),
    "failures_total": ("counter", "Iterations of this process that published no epoch because of an error."),
}


@dataclass(slots=True)
class StoreMetrics:
    """The metrics of one store."""

    epoch: Epoch | None = None
    current_at: float | None = None
    epochs: int = 0
    rows_changed: int = 0
    rows_deleted: int = 0
    failures: int = 0

    def count(self, synced: SyncResult) -> None:
        if synced.trouble is not None:
            self.failures += 1
        elif synced.epoch is not None:
            self.epoch = synced.epoch
            self.current_at = time.time() - synced.seconds  # nothing has changed: as of the start
        if synced.is_new and synced.epoch is not None:
            self.current_at = datetime.fromisoformat(synced.epoch.token.taken_at).timestamp()
            self.epochs += 1
            self.rows_changed += synced.epoch.changed
            self.rows_deleted += synced.epoch.deleted

    def values(self) -> dict[str, int | float]:
        values: dict[str, int | float] = {}
        if self.epoch is not None:
            values |= {
                "epoch_number": self.epoch.number,
                "epoch_rows": self.epoch.rows,
                "epoch_bytes": self.epoch.bytes,
                "tables_left_out": len(self.epoch.left_out),
            }
        if self.current_at is not None:
            values |= {
                "lag_seconds": round(max(time.time() - self.current_at, 0), 3),
                "success_timestamp_seconds": round(self.current_at, 3),
            }
        return values | {
            "epochs_total": self.epochs,
            "rows_changed_total": self.rows_changed,
            "rows_deleted_total": self.rows_deleted,
            "failures_total": self.failures,
        }


@dataclass(slots=True)
class SyncMetrics:
    """The metrics of one process. `lake`: the value of the label of the same name. `stores`: by the value of
    the label `source`, which a lake of one store does not have."""

    path: Path
    lake: str
    stores: dict[str, StoreMetrics] = field(default_factory=lambda: {"": StoreMetrics()})
    _problem: str | None = None

    def record(self, synced: SyncResult, store: str = "") -> str | None:
        """Count one iteration and write the file. If it cannot be written, returns the reason, once; the sync
        continues."""
        self.stores[store].count(synced)
        known, self._problem = self._problem, None
        try:
            self.write()
        except UsageError as error:
            self._problem = str(error)
        return self._problem if self._problem != known else None

    def write(self) -> None:
        """Replace the file. Raises UsageError if it cannot be written."""
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")  # the collector reads *.prom
        try:
            draft.write_text("".join(self._lines()), "utf-8")
            draft.replace(self.path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise UsageError(
                f"cannot write the metrics to {self.path} ({error.strerror}): correct --metrics"
            ) from error

    def _lines(self) -> Iterator[str]:
        values = {store: metrics.values() for store, metrics in self.stores.items()}
        for name, (kind, text) in HELP.items():
            measured = {store: found[name] for store, found in values.items() if name in found}
            if measured:
                yield f"# HELP ridelake_sync_{name} {text}\n# TYPE ridelake_sync_{name} {kind}\n"
            for store, value in measured.items():
                labels = f'lake="{_escaped(self.lake)}"' + (f',source="{store}"' if store else "")
                yield f"ridelake_sync_{name}{{{labels}}} {value}\n"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
