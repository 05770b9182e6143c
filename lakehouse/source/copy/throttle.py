"""Applies the pace to a copy, and limits the age of its snapshot.

A thread probes the server on a connection of its own. The workers take turns, and pause after each slice of
work. The server sends rows only as fast as they are read, so its processes pause too.
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from time import monotonic, sleep
from typing import TypeVar

import psycopg
import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow

from lakehouse.source.copy.pace import CAREFUL, FULL_SPEED, Pace, Probe, next_pace
from oltp.store import Store
from ridelake.errors import CannotConnect, RidelakeError
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.source.copy")

Table = TypeVar("Table")

NICE = 10

PROBE_SLEEP_SECONDS = 0.001
PROBE_EVERY_SECONDS = 0.025
PROBES_KEPT = 20
PROBES_PER_DECISION = 10
PROBE_SECONDS_MAX = 2.0  # if the server does not answer, its probe is not waited for
# The delay alone is measured before the copy, and again during it, because the load changes.
PROBES_ALONE = 12
ALONE_EVERY_SECONDS = 5.0

# A thread pauses after this time of work. A longer one, such as a wait for the server, counts as WORK_MAX.
SLICE_SECONDS = 0.002
WORK_SECONDS_MAX = 0.05
PAUSE_SECONDS_MAX = 0.25
TURN_SECONDS = 0.05

TIMEOUT_MS_MAX = 2**31 - 1  # of statement_timeout

# After this share of the limit, the copy continues at full speed.
HURRY_SHARE = 0.5


class SnapshotTooOld(RidelakeError):
    """The copy did not end within --max-snapshot-seconds."""

    def __init__(self, limit_seconds: float) -> None:
        super().__init__(
            f"cannot copy the tables within {limit_seconds:g} s (--max-snapshot-seconds), so no epoch was "
            "published: pass --fast, copy fewer tables, choose a time with less load, or raise the limit"
        )


class Throttle:
    """`fast`: without pauses. `limit_seconds`: the maximum age of the snapshot. `on_age`: called with the age
    of the snapshot in seconds, during the copy and at its end; from several threads."""

    def __init__(
        self,
        *,
        fast: bool = True,
        limit_seconds: float | None = None,
        on_age: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.fast, self.limit_seconds, self._on_age = fast, limit_seconds, on_age
        self.paused_seconds = 0.0
        self._pace = FULL_SPEED
        self._own: set[int] = set()
        self._snapshot_at: float | None = None
        self._worked_since = monotonic()
        self._turns, self._turn_ended = 0, threading.Condition()
        self._may_work = threading.Event()
        self._may_work.set()
        self._stopped = threading.Event()

    # ── The snapshot ─────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def snapshot(self, connection: Connection[TupleRow]) -> Iterator[None]:
        """The block in which the snapshot of the connection's transaction is open. Raises SnapshotTooOld,
        also instead of another error after the limit."""
        self.add_own(connection)
        self.limit(connection)
        self._snapshot_at = monotonic()
        try:
            yield
            self.check_age()
        except (psycopg.Error, RidelakeError) as error:
            if self.limit_seconds is not None and self.age_seconds >= self.limit_seconds:
                raise SnapshotTooOld(self.limit_seconds) from error
            raise
        finally:
            self._snapshot_at = None

    @property
    def age_seconds(self) -> float:
        return 0.0 if self._snapshot_at is None else monotonic() - self._snapshot_at

    def check_age(self) -> None:
        """Raises SnapshotTooOld."""
        self._on_age(self.age_seconds)
        if self.limit_seconds is not None and self.age_seconds >= self.limit_seconds:
            raise SnapshotTooOld(self.limit_seconds)

    def limit(self, connection: Connection[TupleRow]) -> None:
        """Set a time limit for the statements of the transaction that is open, so that a statement that sends
        no rows is ended, too."""
        if self.limit_seconds is not None:
            left_ms = 1000 * max(self.limit_seconds - self.age_seconds, 0.0)
            query = "SELECT set_config('statement_timeout', %s, true)"
            connection.execute(query, (f"{int(min(left_ms, TIMEOUT_MS_MAX - 1)) + 1}ms",))

    def limited(self, connection: Connection[TupleRow], tables: Iterable[Table]) -> Iterator[Table]:
        """The tables; before each, check the age and set the time limit. Raises SnapshotTooOld."""
        for table in tables:
            self.check_age()
            self.limit(connection)
            yield table

    # ── The pace ─────────────────────────────────────────────────────────────────────────────────

    @property
    def pace(self) -> Pace:
        hurry = self.limit_seconds is not None and self.age_seconds > HURRY_SHARE * self.limit_seconds
        return FULL_SPEED if self.fast or hurry else self._pace

    @contextmanager
    def turn(self, is_ended: Callable[[], bool]) -> Iterator[None]:
        """Wait until another thread may work; not longer than until `is_ended`."""
        with self._turn_ended:
            while self._turns >= (self.pace.workers or self._turns + 1) and not is_ended():
                self._turn_ended.wait(TURN_SECONDS)
            self._turns += 1
        try:
            yield
        finally:
            with self._turn_ended:
                self._turns -= 1
                self._turn_ended.notify()

    def pause(self) -> None:
        """Pause for the work since the last pause. Raises SnapshotTooOld."""
        self.check_age()
        now = monotonic()
        self.wait_for_probes()
        worked = min(now - self._worked_since, WORK_SECONDS_MAX)
        if worked < SLICE_SECONDS:
            return
        if ratio := self.pace.pause_ratio:
            sleep(min(worked * ratio, PAUSE_SECONDS_MAX))
            self.paused_seconds += monotonic() - now
        self._worked_since = monotonic()

    def between(self, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The pieces, with a pause after each."""
        for piece in pieces:
            yield piece
            self.pause()

    # ── The probes ───────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def watching(self, store: Store, own: Connection[TupleRow] | None = None) -> Iterator[None]:
        """Probe the server during the block, unless `fast`. The copy waits for the first probes. `own`: a
        connection of the copy."""
        if self.fast:
            yield
            return
        if own is not None:
            self.add_own(own)
        self._may_work.clear()
        watch = threading.Thread(target=self._watch, args=(store,), name="probes", daemon=True)
        watch.start()
        try:
            yield
        finally:
            self._stopped.set()
            watch.join(PROBE_SECONDS_MAX)

    def add_own(self, connection: Connection[TupleRow]) -> None:
        """Do not count the session as load. To be called before its first statement."""
        self._own.add(connection.info.backend_pid)

    def wait_for_probes(self) -> None:
        """Wait for the probes that are running, which must not see a new connection of the copy."""
        self._may_work.wait(PAUSE_SECONDS_MAX)

    def _probes(self, connection: Connection[TupleRow]) -> Iterator[Probe]:
        values = {"seconds": PROBE_SLEEP_SECONDS}
        while True:
            own = list(self._own)
            found = connection.execute(QUERIES["probe"], values | {"own": own}).fetchone()
            assert found is not None
            delay_ms, transactions, sessions = found
            yield Probe(monotonic(), delay_ms, transactions, sessions)

    def _watch(self, store: Store) -> None:
        try:
            with store.connect() as connection:
                probes = self._probes(connection)
                alone = list(islice(probes, PROBES_ALONE))
                self._pace = next_pace(FULL_SPEED, alone, alone)
                self._may_work.set()
                self._adapt(probes, alone)
        except (psycopg.Error, CannotConnect):  # such as the role's limit of connections
            self._pace = CAREFUL
        finally:
            self._may_work.set()

    def _adapt(self, probes: Iterator[Probe], alone: list[Probe]) -> None:
        recent = deque(alone, PROBES_KEPT)
        alone_at, probed = monotonic(), 0
        while not self._stopped.wait(PROBE_EVERY_SECONDS):
            if self._pace != FULL_SPEED and monotonic() - alone_at > ALONE_EVERY_SECONDS:
                self._may_work.clear()
                self._stopped.wait(WORK_SECONDS_MAX)  # until each worker has ended its slice
                alone = list(islice(probes, PROBES_ALONE))
                self._may_work.set()
                alone_at = monotonic()
            recent.append(next(probes))
            probed += 1
            if probed % PROBES_PER_DECISION == 0:
                self._pace = next_pace(self._pace, recent, alone)


NO_THROTTLE = Throttle()


def lower_priority() -> None:
    """Let other threads of the session run first. Linux has a priority for each thread; threads that this one
    starts inherit it. It cannot be raised again without privileges."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(os.getpriority(os.PRIO_PROCESS, thread), NICE))
