"""Epochs one after the other, of what has changed; and the housekeeping that lets that go on for ever."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from lakehouse.catalog import Lake
from lakehouse.columns import TableNotTaken
from lakehouse.epoch import Epoch
from lakehouse.maintain import maintain
from lakehouse.pointers import LostRace
from lakehouse.take import take_changes
from oltp.store import Store
from ridelake.errors import CannotConnect

# Often enough that small files and old epochs stay few, seldom enough that it does not show.
MAINTAIN_EVERY_EPOCHS = 50


@dataclass(frozen=True, slots=True)
class Synced:
    """One turn. `is_new`: something had changed. `lag_seconds`: how old what is published was when it was
    seen, at most. `trouble`: why there is no epoch this time; the next turn tries again. `compared`: the rows
    were compared with Postgres."""

    epoch: Epoch | None
    is_new: bool
    seconds: float
    lag_seconds: float | None
    trouble: str | None = None
    compared: bool = False

    def line(self) -> str:
        if self.trouble is not None:
            return self.trouble
        assert self.epoch is not None
        if not self.is_new:
            compared = ", compared row by row" if self.compared else ""
            return f"epoch {self.epoch.number} is still equal to Postgres{compared}: nothing has changed"
        return (
            f"epoch {self.epoch.number}: {self.epoch.changed:,} rows changed, {self.epoch.gone:,} gone; "
            f"{self.epoch.rows:,} rows in {len(self.epoch.files)} files, {self.seconds:.2f} s, "
            f"{self.lag_seconds:.2f} s behind" + (", equal to Postgres" if self.epoch.verified else "")
        )

    def report(self) -> dict[str, Any]:
        """For `--json`; the files are left to `ridelake epochs --json`."""
        report = {
            "new": self.is_new, "seconds": round(self.seconds, 4), "lag_seconds": self.lag_seconds,
            "trouble": self.trouble,
        }  # fmt: skip
        if self.epoch is not None:
            of_epoch = self.epoch.report()
            del of_epoch["tables"]
            report = of_epoch | report
        return report


def sync_once(
    store: Store,
    lake: Lake,
    *,
    tables: Sequence[str] = (),
    verify: bool = False,
    without: Sequence[str] = (),
) -> Synced:
    """Raises as `take_changes` does."""
    started = time.perf_counter()
    taken = take_changes(store, lake, tables=tables, verify=verify, without=without)
    seen = datetime.fromisoformat(taken.epoch.token.taken_at)
    lag = (datetime.now(UTC) - seen).total_seconds() if taken.is_new else 0.0
    seconds = time.perf_counter() - started
    return Synced(taken.epoch, taken.is_new, seconds, round(lag, 4), compared=verify)


def synced_every(
    seconds: float,
    store: Store,
    lake: Lake,
    *,
    tables: Sequence[str] = (),
    verify: bool = False,
    without: Sequence[str] = (),
) -> Iterator[Synced]:
    """Without end. A lost race, a server that is away or a value that no table can be taken with is a turn
    without an epoch. What no waiting mends (a
    standby, another server's history, a folder that cannot be written) is raised, as by `take_changes`."""
    new_epochs = 0
    while True:
        due = time.monotonic() + seconds
        started = time.perf_counter()
        try:
            synced = sync_once(store, lake, tables=tables, verify=verify, without=without)
        except LostRace:
            trouble = "another process published an epoch first"
            synced = Synced(None, False, time.perf_counter() - started, None, trouble + _again(seconds))
        except (CannotConnect, TableNotTaken) as error:
            trouble = str(error).replace(", run it again", "")
            synced = Synced(None, False, time.perf_counter() - started, None, trouble + _again(seconds))
        yield synced
        if synced.is_new:
            new_epochs += 1
            if new_epochs % MAINTAIN_EVERY_EPOCHS == 0:
                with suppress(LostRace, CannotConnect, psycopg.OperationalError):  # the next one does it
                    maintain(lake, store)
        time.sleep(max(0.0, due - time.monotonic()))


def _again(seconds: float) -> str:
    return f"; `ridelake sync` tries again every {seconds:g} s"
