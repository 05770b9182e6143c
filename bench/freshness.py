"""The lag from a commit to an epoch with it, and the effect of syncing on bookings.

A prober tops up the account of a rider several times a second and records the time and the transaction id of
each COMMIT. The lag of a probe ends with the publication of the first epoch whose token has seen the
transaction.
"""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import sleep, time

import numpy as np

from lakehouse.capture.sync import sync_repeatedly
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Epoch
from lakehouse.table.published import read_epochs
from oltp.store import Store, transaction
from oltp.workload import simulate
from ridelake.errors import RidelakeError
from ridelake.settings import LakeAddress

RATE = 1_000.0  # rides a second
SECONDS = 20.0
ROUNDS = 3
CLIENTS = 512
PROBES_PER_SECOND = 20
SYNC_EVERY_SECONDS = 0.5
PEAK_SECONDS = 8.0
SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit threads and connections


@dataclass(frozen=True, slots=True)
class FreshnessResult:
    """The lag of each probe in seconds; peak rides/s without and with syncing, round by round."""

    lags: list[float]
    epochs: int
    rides_per_second: float
    alone: list[float]
    during: list[float]

    def report(self) -> dict[str, object]:
        ratios = np.array(self.during) / np.array(self.alone)
        return {
            "rides_per_second": self.rides_per_second,
            "lag_s_p50": float(np.percentile(self.lags, 50)),
            "lag_s_p99": float(np.percentile(self.lags, 99)),
            "lag_s_max": max(self.lags),
            "probes": len(self.lags),
            "epochs": self.epochs,
            "peak_alone": float(np.median(self.alone)),
            "peak_during_sync": float(np.median(self.during)),
            "ratio_of_peaks": float(np.median(ratios)),
            "ratio_from_to": f"{ratios.min():.2f}–{ratios.max():.2f}",
        }


def measure_freshness(store: Store, lake: Lake) -> FreshnessResult:
    """Measure the lags, then bookings without and with syncing, interleaved."""
    probes: list[tuple[int, float]] = []
    with syncing(store, lake) as epochs, probing(store, probes):
        steady = simulate(store, seconds=SECONDS, clients=CLIENTS, rate=RATE, batch=True, seed=1)
    assert steady.audit.passed, steady.audit.verdict
    lags = [lag for lag in (_lag(probe, epochs) for probe in probes) if lag is not None]
    assert len(lags) >= 0.9 * len(probes), "the sync did not keep up"
    alone, during = [], []
    for number in range(ROUNDS):
        alone.append(_peak(store, 10 + number))
        with syncing(store, lake):
            during.append(_peak(store, 20 + number))
    return FreshnessResult(lags, len(epochs), steady.assigned / steady.seconds, alone, during)


def _peak(store: Store, seed: int) -> float:
    done = simulate(store, seconds=PEAK_SECONDS, clients=384, batch=True, seed=seed)
    assert done.audit.passed, done.audit.verdict
    return done.assigned / done.seconds


def _lag(probe: tuple[int, float], epochs: list[Epoch]) -> float | None:
    tx, committed = probe
    first = next((epoch for epoch in epochs if epoch.token.has_seen(tx)), None)
    return first.published_at.timestamp() - committed if first else None


@contextmanager
def syncing(store: Store, lake: Lake, every_seconds: float = SYNC_EVERY_SECONDS) -> Iterator[list[Epoch]]:
    """Sync in a separate process during the block. After the block, all commits are published and the list
    contains the epochs."""
    epochs: list[Epoch] = []
    before = lake.newest()
    ours, theirs = SPAWN.Pipe()
    arguments = (theirs, store, lake.address, every_seconds)
    process = SPAWN.Process(target=_sync_until_closed, args=arguments, name="sync", daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()  # EOFError: the process failed and has printed the error
        yield epochs
    finally:
        ours.close()
        process.join()
    if process.exitcode != 0:
        raise RidelakeError("the sync during the bookings failed")
    number = before.number if before else 0
    epochs += [one for one in reversed(read_epochs(lake.address)) if one.number > number]


def _sync_until_closed(parent: Connection, store: Store, address: LakeAddress, every_seconds: float) -> None:
    """Sync until the parent closes the pipe or ends; then publish the remaining changes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    lake = Lake.create(address)
    parent.send("ready")
    for synced in sync_repeatedly(every_seconds, store, lake):
        if parent.poll() and not synced.is_new:
            return


@contextmanager
def probing(store: Store, probes: list[tuple[int, float]]) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        with store.connect() as connection:
            rider = connection.execute("SELECT max(rider_id) FROM riders").fetchone()
            assert rider is not None
            while not stop.is_set():
                with transaction(connection):
                    connection.execute("SELECT top_up(%s, 1)", rider)
                    row = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
                assert row is not None
                probes.append((row[0], time()))
                sleep(1 / PROBES_PER_SECOND)

    thread = threading.Thread(target=run, name="prober")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
