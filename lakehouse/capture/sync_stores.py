"""Publish several stores to one lake, each in its own thread.

An unreachable or hanging store does not delay the others: the lake keeps its tables as of its last token. A
thread that waits for a server cannot be stopped; it ends with the process. A permanent error of a store ends
its thread only.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Unpack

import psycopg

from lakehouse.capture.publish import PublishOptions
from lakehouse.capture.sync import SyncResult, sync_once, sync_repeatedly
from lakehouse.table.catalog import Lake
from oltp.store import Store, open_database
from ridelake.errors import CannotConnect, RidelakeError

# If an epoch takes longer than this, a new connection checks whether the server still answers.
SILENT_SECONDS = 10.0
ANSWER_SECONDS_MAX = 5.0
POLL_SECONDS = 0.2
RETRY_SECONDS = 1.0
STOP_SECONDS = 1.0  # the time to complete the epochs that are being published

Opening = Callable[[Callable[[str], None]], AbstractContextManager[tuple[Store, Lake, list[str]]]]
"""Opens the store and the lake. The argument is called with remarks on tables."""


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What the publisher of a store reports: the result of an iteration, with sentences on tables (`notes`),
    or the error that ended it. `last`: it has ended."""

    store: str
    synced: SyncResult | None = None
    notes: tuple[str, ...] = ()
    error: Exception | None = None
    last: bool = False


class _Stopped(Exception):
    """The process stops: no further iteration."""


@dataclass(slots=True)
class _Publisher:
    """The thread of one store. `begun`: when its current iteration began (monotonic); None between two.
    `asked`: since when the server was asked for an answer, because the iteration takes long."""

    name: str
    dsn: str
    opening: Opening
    every_seconds: float | None  # None: once
    options: PublishOptions
    reports: "SimpleQueue[StoreReport]"
    stop: threading.Event
    begun: float | None = None
    asked: float | None = None
    silent: bool = False
    ended: bool = False
    _notes: list[str] = field(default_factory=list)

    def run(self) -> None:
        error: Exception | None = None
        try:
            for synced in self._results():
                self._report(synced=synced)
        except _Stopped:
            pass
        except Exception as raised:
            error = raised
        self.ended = True
        self._report(error=error, last=True)

    def _report(
        self, synced: SyncResult | None = None, error: Exception | None = None, *, last: bool = False
    ) -> None:
        notes, self._notes = tuple(self._notes), []
        self.silent = False
        self.reports.put(StoreReport(self.name, synced, notes, error, last))

    def _note(self, sentence: str) -> None:
        self._notes.append(sentence)

    def _results(self) -> Iterator[SyncResult]:
        while True:
            self.begun = started = time.monotonic()
            try:
                with self.opening(self._note) as (store, lake, _):
                    self.options["on_note"] = self._note
                    if self.every_seconds is None:
                        yield sync_once(store, lake, **self.options)
                        return
                    yield from sync_repeatedly(
                        self.every_seconds, store, lake, wait=self._wait, **self.options
                    )
            except (CannotConnect, psycopg.OperationalError) as error:
                if self.every_seconds is None:
                    raise
                trouble = f"{error}; `ridelake sync` retries every {RETRY_SECONDS:g} s"
                yield SyncResult(None, False, time.monotonic() - started, None, trouble)
            self._wait(RETRY_SECONDS)

    def _wait(self, seconds: float) -> None:
        self.begun = self.asked = None
        if self.stop.wait(seconds):
            raise _Stopped
        self.begun = time.monotonic()

    def check(self) -> StoreReport | None:
        """Ask the server for an answer if the iteration takes long. Returns a report, once, if there is
        none."""
        now, begun = time.monotonic(), self.begun
        if self.ended or self.silent or begun is None or now - begun < SILENT_SECONDS:
            return None
        if self.asked is None:
            self.asked = now
            threading.Thread(target=self._ask, name=f"{self.name} answers?", daemon=True).start()
        elif now - self.asked > ANSWER_SECONDS_MAX:
            self.silent = True
            trouble = (
                f"its server has not answered for {ANSWER_SECONDS_MAX:g} s; `ridelake sync` waits for it"
            )
            return StoreReport(self.name, SyncResult(None, False, now - begun, None, trouble))
        return None

    def _ask(self) -> None:
        try:
            open_database(self.dsn, install=False)
        except (RidelakeError, psycopg.Error) as error:
            if isinstance(error.__cause__, psycopg.errors.ConnectionTimeout):
                return  # any other error is an answer, such as that all connections are in use
        if self.begun is not None:
            self.begun = time.monotonic()  # it answers: ask again later
        self.asked = None


def sync_stores(
    openings: Mapping[str, tuple[str, Opening]],
    every_seconds: float | None,
    **options: Unpack[PublishOptions],
) -> Iterator[StoreReport]:
    """Publish an epoch of each store every `every_seconds`. None: publish one epoch of each and end.
    `openings`: the DSN and the opening of each store, by its name. Yields what each publisher reports, in the
    order of the reports, until all have ended. An error of one store is reported and does not end the
    others."""
    reports: SimpleQueue[StoreReport] = SimpleQueue()
    stop = threading.Event()
    publishers = {
        name: _Publisher(name, dsn, opening, every_seconds, options.copy(), reports, stop)
        for name, (dsn, opening) in openings.items()
    }
    threads = [
        threading.Thread(target=one.run, name=f"sync {one.name}", daemon=True) for one in publishers.values()
    ]
    try:
        for thread in threads:
            thread.start()
        yield from _reports(publishers, reports, once=every_seconds is None)
    finally:
        stop.set()
        until = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0))


def _reports(
    publishers: Mapping[str, _Publisher], reports: "SimpleQueue[StoreReport]", *, once: bool
) -> Iterator[StoreReport]:
    running, checked = set(publishers), time.monotonic()
    while running:
        with suppress(Empty):
            report = reports.get(timeout=POLL_SECONDS)
            if report.last:
                running.discard(report.store)
            yield report
        if time.monotonic() < checked + POLL_SECONDS:
            continue
        checked = time.monotonic()
        for one in publishers.values():
            if (silent := one.check()) is not None:
                yield silent
                if once:  # its thread ends with the process
                    running.discard(one.name)
