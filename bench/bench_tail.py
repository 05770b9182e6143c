"""Tail latency in an open loop, in which requests are due at fixed times.

A closed loop sends fewer requests while the server is slow and underestimates the tail. Here the latency is
measured from the time when a request was due. The rate is a share of the peak that the same workload reached
before.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from time import sleep

import pytest
from psycopg import IsolationLevel
from pytest_benchmark.fixture import BenchmarkFixture

from bench.env import BenchEnv
from oltp.store import Store, transaction
from oltp.workload import SimulationResult, simulate
from ridelake.queries import load_queries

QUERIES = load_queries("bench")

pytestmark = pytest.mark.scale("full")

PEAK_SECONDS = 6.0
OPEN_SECONDS = 12.0
HELD_SECONDS = 60.0
CLIENTS = {"one by one": 8, "batch": 384}  # best numbers on two cores
OPEN_CLIENTS = {"one by one": 32, "batch": 1_024}  # maximum number of concurrent requests


@pytest.mark.parametrize("mode", CLIENTS)
def bench_latency_at_half_of_the_peak(benchmark: BenchmarkFixture, env: BenchEnv, mode: str) -> None:
    benchmark.group = "latency at half of the peak, open loop"
    peak = _peak(env.store, mode)
    done: SimulationResult = benchmark.pedantic(
        lambda: _open_loop(env.store, mode, peak / 2, OPEN_SECONDS), rounds=1
    )
    benchmark.extra_info |= {
        "peak_requests_per_second": peak,
        "rate": done.rate,
        "latency_ms_p50": done.latency_ms_p50,
        "latency_ms_p99": done.latency_ms_p99,
        "latency_ms_max": done.latency_ms_max,
        "behind_seconds": done.behind_seconds,
        "audit": done.audit.verdict,
    }


def bench_booking_beside_a_long_reader(benchmark: BenchmarkFixture, env: BenchEnv) -> None:
    """A REPEATABLE READ transaction is open for a minute, so dead rows cannot be removed."""
    benchmark.group = "booking while a reader holds a snapshot for 60 s, open loop"
    rate = _peak(env.store, "one by one") / 2
    free = _watched(env.store, rate, OPEN_SECONDS, held=False)
    held: DriverUpdates = benchmark.pedantic(
        lambda: _watched(env.store, rate, HELD_SECONDS, held=True), rounds=1
    )
    benchmark.extra_info |= {
        "rate": rate,
        "free_latency_ms_p99": free.done.latency_ms_p99,
        "held_latency_ms_p99": held.done.latency_ms_p99,
        "ratio_of_p99": held.done.latency_ms_p99 / free.done.latency_ms_p99,
        "driver_updates": held.updates,
        "free_hot_share": free.hot_share,
        "held_hot_share": held.hot_share,
        "audit": held.done.audit.verdict,
    }


@dataclass(frozen=True, slots=True)
class DriverUpdates:
    """A run, and its updates of the table of drivers."""

    done: SimulationResult
    updates: int
    hot_share: float


def _peak(store: Store, mode: str) -> float:
    """Requests/s in the closed loop."""
    done = simulate(store, seconds=PEAK_SECONDS, clients=CLIENTS[mode], batch=mode == "batch", seed=1)
    assert done.audit.passed, done.audit.verdict
    return done.requested / done.seconds


def _open_loop(store: Store, mode: str, rate: float, seconds: float) -> SimulationResult:
    done = simulate(
        store, seconds=seconds, clients=OPEN_CLIENTS[mode], rate=rate, batch=mode == "batch", seed=2
    )
    assert done.audit.passed, done.audit.verdict
    return done


def _watched(store: Store, rate: float, seconds: float, *, held: bool) -> DriverUpdates:
    before = _driver_updates(store)
    with _snapshot_held(store) if held else nullcontext():
        done = _open_loop(store, "one by one", rate, seconds)
    sleep(1.0)  # a session reports its statistics when it is idle or ends
    after = _driver_updates(store)
    updates, hot = after[0] - before[0], after[1] - before[1]
    return DriverUpdates(done, updates, hot / updates)


@contextmanager
def _snapshot_held(store: Store) -> Iterator[None]:
    with (
        store.connect() as connection,
        transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True),
    ):
        connection.execute("SELECT count(*) FROM drivers")  # takes the snapshot
        yield


def _driver_updates(store: Store) -> tuple[int, int]:
    with store.connect() as connection:
        row = connection.execute(QUERIES["driver_updates"]).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
