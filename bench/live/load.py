"""The process that books rides without end: `ridelake simulate` with settings that change while it runs.

A change of the settings ends the clients after their current request, and starts others on the same pool of
connections. Counts and request ids continue. Every acknowledged decision is remembered, so that it can be
looked up after a crash of the server (`crash.py`).
"""

import threading
import time
from array import array
from collections import deque
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID

import numpy as np

from bench.live.crash import NO_CRASH, crash_and_check
from bench.live.worker import WorkerChannel, one_line
from oltp.cluster.server import Cluster, open_cluster
from oltp.store import Store
from oltp.workload.client import RunPool
from oltp.workload.metrics import Metrics, MetricsSnapshot
from oltp.workload.requests import RequestIds, draw_timed_requests, expire, riders_by_city
from oltp.workload.runner import ClientGroup
from oltp.workload.schedule import ArrivalMode, ArrivalSchedule, draw_scenarios
from oltp.workload.simulation import RunPlan, clients_of
from ridelake.errors import CannotConnect, ProofFailed
from ridelake.ride import Decision

REPORT_SECONDS = 0.1
WINDOW_SECONDS = 2.0  # of the rates and latencies
SILENT_SECONDS = 0.5  # without an answer, while calls are retried: the server is unreachable
CHANGE_SECONDS = 0.02  # how often a change of the settings is checked
STOP_SECONDS = 1.0  # for the clients to finish their requests; then their calls are cancelled
BEHIND_SECONDS_MAX = 10.0  # requests that are due for longer are not sent, as after a suspend
RETRY_SECONDS = 0.5  # after the clients have stopped with an error
SECONDS_KEPT = 600  # of the times of acknowledgements
IDS_KEPT_MAX = 1_000_000  # without a crash; an hour at 280 requests/s

BYTES_PER_ID = 16


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """`rate`: requests per second; None: each client sends the next request after an answer."""

    clients: int = 8
    rate: float | None = 200.0
    batch: bool = False
    paused: bool = False

    @property
    def runs(self) -> bool:
        return self.clients > 0 and not self.paused


class AcknowledgedLog(Metrics):
    """The metrics, and the id and time of every acknowledged decision since the last `take_ids`, at most the
    last IDS_KEPT_MAX."""

    def __init__(self) -> None:
        super().__init__()
        self._ids = bytearray()
        self._times = array("d")
        self._log_lock = threading.Lock()

    def decided(self, decision: Decision, seconds: float | None) -> None:
        super().decided(decision, seconds)
        with self._log_lock:
            self._ids += decision.request_id.bytes
            if len(self._ids) > IDS_KEPT_MAX * BYTES_PER_ID:
                del self._ids[: IDS_KEPT_MAX // 10 * BYTES_PER_ID]
            self._times.append(time.time())
            if len(self._times) > 200_000 and self._times[0] < time.time() - SECONDS_KEPT:
                del self._times[: len(self._times) // 2]

    def take_ids(self) -> list[UUID]:
        """The ids since the last call."""
        with self._log_lock:
            taken, self._ids = bytes(self._ids), bytearray()
        return [
            UUID(bytes=taken[place : place + BYTES_PER_ID]) for place in range(0, len(taken), BYTES_PER_ID)
        ]

    def last_at(self) -> float | None:
        """The time of the last acknowledgement."""
        with self._log_lock:
            return self._times[-1] if self._times else None

    def longest_gap_after(self, moment: float) -> float | None:
        """The longest time between two acknowledgements of which the second is after `moment`."""
        with self._log_lock:
            times = [one for one in self._times if one > moment - SECONDS_KEPT]
        gaps = [after - before for before, after in pairwise(times) if after > moment]
        return max(gaps, default=None)


def work(channel: WorkerChannel, store: Store, home: Path) -> None:
    """Book until the channel is stopped. This process is a user of the embedded server, too: if the web
    process is killed while this one starts the server again, the monitor process must wait and stop it."""
    with open_cluster(home) as cluster:
        EndlessLoad(channel, store, cluster).run()


class EndlessLoad:
    """One run whose clients are replaced when the settings change."""

    def __init__(self, channel: WorkerChannel, store: Store, cluster: Cluster) -> None:
        self._channel, self._store, self._cluster = channel, store, cluster
        self._settings = LoadSettings()
        self._log = AcknowledgedLog()
        self._error: str | None = None
        self._pool: RunPool | None = None
        self._crashing = threading.Lock()
        seeds = np.random.default_rng()
        self._streams = [np.random.default_rng(seed) for seed in seeds.integers(0, 2**32, 3)]
        riders_of = riders_by_city(store)
        self._wishes = draw_timed_requests(self._streams[0], riders_of, RequestIds().new)
        self._scenarios = draw_scenarios(self._streams[1])

    def run(self) -> None:
        self._channel.report("crash", NO_CRASH)
        self._channel.listen(self._obey, self._stop)
        threading.Thread(target=self._report, name="report", daemon=True).start()
        while not self._channel.stopped.is_set():
            settings = self._settings
            if not settings.runs:
                time.sleep(CHANGE_SECONDS)
                continue
            failure = self._book(settings)
            self._error = one_line(failure) if failure is not None else None
            if isinstance(failure, ProofFailed):  # a wrong answer: shown until the bookings are resumed
                self._settings = replace(self._settings, paused=True)
            elif failure is not None:
                self._channel.stopped.wait(RETRY_SECONDS)

    def _obey(self, name: str, arguments: dict[str, Any]) -> None:
        if name == "set":
            self._settings = replace(self._settings, **arguments)
        elif name == "crash" and self._crashing.acquire(blocking=False):
            threading.Thread(target=self._crash, name="crash", daemon=True).start()

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.give_up()

    def _crash(self) -> None:
        try:
            crash_and_check(
                self._cluster, self._store, self._log, lambda value: self._channel.report("crash", value),
                expects_bookings=self._settings.runs,
            )  # fmt: skip
        finally:
            self._crashing.release()

    def _book(self, settings: LoadSettings) -> BaseException | None:
        """Run clients until the settings change or a client fails. Returns the error of the client."""
        plan = RunPlan(max(settings.clients, 1), settings.rate, settings.batch, seed=0)
        try:
            pool = self._pool_of(plan)
            schedule = ArrivalSchedule(
                self._wishes,
                self._scenarios,
                None if plan.rate is None else ArrivalMode(self._streams[2], plan.rate),
                rides=None,
                seconds=None,
            )
            group = clients_of(plan, pool, schedule, self._log, [])
            schedule.begin()
            group.start()
            while settings == self._settings and not self._channel.stopped.is_set():
                behind = schedule.behind_seconds(perf_counter()) > BEHIND_SECONDS_MAX
                if behind or group.wait(CHANGE_SECONDS):
                    break
            return self._end(group, pool)
        except CannotConnect as error:
            self._close_pool()
            return error

    def _end(self, group: ClientGroup, pool: RunPool) -> BaseException | None:
        group.stop()
        if not group.wait(STOP_SECONDS):
            pool.give_up()
            group.wait(STOP_SECONDS)
        if pool.given_up:
            self._close_pool()
        return group.failure

    def _pool_of(self, plan: RunPlan) -> RunPool:
        """The pool with the connections of the plan. A new pool ends the rides of killed runs first."""
        if self._pool is None:
            self._pool = RunPool(self._store, plan.connections)
            self._pool.call(expire)
        self._pool.resize(plan.connections)
        return self._pool

    def _close_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            threading.Thread(target=pool.close, daemon=True).start()  # it waits for its threads

    def _report(self) -> None:
        reporter = LoadReporter(self._log)
        while not self._channel.stopped.wait(REPORT_SECONDS):
            retries = self._pool.retries.by_reason.total() if self._pool is not None else 0
            self._channel.report("load", reporter.part(self._settings, retries, self._error))


class LoadReporter:
    """The part `load` of the state, with rates and latencies of the last WINDOW_SECONDS."""

    def __init__(self, log: AcknowledgedLog) -> None:
        self._log = log
        self._window: deque[tuple[float, MetricsSnapshot]] = deque([(time.monotonic(), log.seen())])
        self._retries: deque[tuple[float, int]] = deque()

    def part(self, settings: LoadSettings, retries: int, error: str | None) -> dict[str, Any]:
        now, seen = time.monotonic(), self._log.seen()
        self._window.append((now, seen))
        while len(self._window) > 2 and self._window[1][0] < now - WINDOW_SECONDS:
            self._window.popleft()
        since, before = self._window[0]
        latencies = seen.latencies.since(before.latencies)
        has_answers = any(latencies.counts)
        return {
            "state": self._state(settings, now, retries),
            "clients": settings.clients,
            "rate": settings.rate,
            "batch": settings.batch,
            "rides_per_second": round(
                (seen.assigned - before.assigned) / max(now - since, REPORT_SECONDS), 1
            ),
            "p50_ms": round(latencies.milliseconds(0.50), 2) if has_answers else None,
            "p99_ms": round(latencies.milliseconds(0.99), 2) if has_answers else None,
            "requested": seen.requested,
            "booked": seen.assigned,
            "refused": {name.replace("_", " "): count for name, count in seen.refused.items()},
            "acknowledged": seen.requested,
            "error": error,
        }

    def _state(self, settings: LoadSettings, now: float, retries: int) -> str:
        if not settings.runs:
            return "paused"
        self._retries.append((now, retries))
        while self._retries[0][0] < now - SILENT_SECONDS:
            self._retries.popleft()
        last = self._log.last_at()
        silent = last is None or time.time() - last > SILENT_SECONDS
        retrying = retries > self._retries[0][1]
        return "reconnecting" if silent and retrying else "running"
