"""Bookings in batches, compared with pgbench, which books one ride per transaction.

pgbench runs with several numbers of clients in each round, and the fastest counts. Each round runs both
sides, and the ratio is computed round by round, so that other load affects both.
"""

from itertools import islice
from statistics import median
from time import perf_counter

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.clients import ClientRun, pgbench_cycles_per_second, run_dispatched
from bench.env import BenchEnv
from oltp import booking, lifecycle
from oltp.audit import audit
from oltp.store import Store
from oltp.workload import draw_requests, riders_by_city
from ridelake.ride import Outcome

pytestmark = pytest.mark.scale("full")

ROUNDS = 5
ASSIGNED_SHARE_MIN = 0.8  # as in bench_booking.py
CALLERS = 384
CYCLES = 15_360
PGBENCH_CLIENTS = (8, 16, 32)
PGBENCH_CYCLES = 3_200
BATCH_SIZES = (1, 8, 64, 512)
CYCLES_BY_SIZE = {1: 800, 8: 2_400, 64: 6_400, 512: 10_240}


def bench_booking_in_batches(benchmark: BenchmarkFixture, env: BenchEnv) -> None:
    """Many callers of one dispatcher, which chooses the batch sizes."""
    benchmark.group = "booking and cancelling, in batches"
    runs: list[ClientRun] = []
    batches: list[float] = []
    pgbench_rates: list[float] = []

    def pgbench() -> None:
        pgbench_rates.append(
            max(
                pgbench_cycles_per_second(env.store, clients, PGBENCH_CYCLES, seed=len(pgbench_rates) + 1)
                for clients in PGBENCH_CLIENTS
            )
        )

    def ours() -> None:
        run, batch_mean = run_dispatched(env.store, CALLERS, CYCLES, seed=len(runs) + 1)
        runs.append(run)
        batches.append(batch_mean)

    benchmark.pedantic(ours, setup=pgbench, rounds=ROUNDS)

    assert all(run.assigned >= run.cycles * ASSIGNED_SHARE_MIN for run in runs)
    _audited(env.store)
    latency_ms = np.concatenate([run.latency_ms for run in runs])
    ratios = sorted(run.cycles_per_second / rate for run, rate in zip(runs, pgbench_rates, strict=True))
    benchmark.extra_info |= {
        "callers": CALLERS,
        "batch_mean": median(batches),
        "rides_per_second": median(run.cycles_per_second for run in runs),
        "pgbench_best_rides_per_second": median(pgbench_rates),
        "ratio_to_pgbench": median(ratios),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
        "latency_ms_p50": float(np.percentile(latency_ms, 50)),
        "latency_ms_p99": float(np.percentile(latency_ms, 99)),
        "audit": "passed",
    }


@pytest.mark.parametrize("size", BATCH_SIZES)
def bench_batch_size(benchmark: BenchmarkFixture, env: BenchEnv, size: int) -> None:
    """Throughput of one connection by batch size."""
    benchmark.group = "booking and cancelling, by batch size, one connection"
    requests = draw_requests(np.random.default_rng(size), riders_by_city(env.store))
    batches = [list(islice(requests, size)) for _ in range(CYCLES_BY_SIZE[size] // size)]
    latency_ms: list[float] = []
    assigned: list[int] = []

    def book_and_cancel() -> None:
        for batch in batches:
            started = perf_counter()
            decisions = booking.book_many(connection, batch)
            latency_ms.append((perf_counter() - started) * 1000)
            rides = [one.ride_id for one in decisions if one.ride_id is not None]
            assigned.append(sum(one.outcome is Outcome.ASSIGNED for one in decisions))
            lifecycle.cancel_many(connection, rides)

    with env.store.connect() as connection:
        benchmark.pedantic(book_and_cancel, rounds=1)  # a repeated request id would only be replayed
    requests_sent = size * len(batches)
    assert sum(assigned) >= requests_sent * ASSIGNED_SHARE_MIN
    _audited(env.store)
    benchmark.extra_info |= {
        "batch": size,
        "rides_per_second": requests_sent / benchmark.stats.stats.median,
        "batch_ms_p50": float(np.percentile(latency_ms, 50)),
        "batch_ms_p99": float(np.percentile(latency_ms, 99)),
        "audit": "passed",
    }


def _audited(store: Store) -> None:
    with store.connect() as connection:
        report = audit(connection)
    assert report.passed, report.verdict
