"""Bookings one by one, and pgbench calling the same function beside them.

Each round runs pgbench and then our clients, so that a busy machine slows both; the ratio is taken round
by round. No round counts unless nearly every request got its driver and the audit passes at the end.
"""

from statistics import median

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.clients import Run, pgbench_cycles_per_second, run_clients
from bench.conftest import Ground
from oltp.audit import audit

pytestmark = pytest.mark.scale("full")

ROUNDS = 5
CYCLES = {1: 1_000, 8: 4_000, 32: 6_400}
ASSIGNED_SHARE_MIN = 0.8  # 3 % of the riders are broke; more refusals would mean that refusing is measured


@pytest.mark.parametrize("clients", CYCLES)
def bench_booking_one_by_one(benchmark: BenchmarkFixture, ground: Ground, clients: int) -> None:
    benchmark.group = "booking and cancelling, one by one"
    cycles = CYCLES[clients]
    runs: list[Run] = []
    rivals: list[float] = []

    def rival() -> None:
        rivals.append(pgbench_cycles_per_second(ground.store, clients, cycles, seed=len(rivals) + 1))

    def ours() -> None:
        runs.append(run_clients(ground.store, clients, cycles, seed=len(runs) + 1))

    benchmark.pedantic(ours, setup=rival, rounds=ROUNDS)

    assert all(run.assigned >= run.cycles * ASSIGNED_SHARE_MIN for run in runs)
    with ground.store.connect() as connection:
        report = audit(connection)
    assert report.passed, report.verdict
    latency_ms = np.concatenate([run.latency_ms for run in runs])
    ratios = sorted(run.cycles_per_second / rival for run, rival in zip(runs, rivals, strict=True))
    benchmark.extra_info |= {
        "rides_per_second": median(run.cycles_per_second for run in runs),
        "pgbench_rides_per_second": median(rivals),
        "ratio_to_pgbench": median(ratios),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
        "latency_ms_p50": float(np.percentile(latency_ms, 50)),
        "latency_ms_p99": float(np.percentile(latency_ms, 99)),
        "audit": "passed",
    }
