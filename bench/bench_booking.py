"""Bookings one by one, compared with pgbench calling the same SQL function.

Each round runs pgbench and then our clients, and the ratio is computed round by round, so that other load
affects both. The benchmark fails unless most requests get a driver and the audit passes.
"""

from statistics import median

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.clients import ClientRun, pgbench_cycles_per_second, run_clients
from bench.env import BenchEnv
from oltp.audit import audit

pytestmark = pytest.mark.scale("full")

ROUNDS = 5
CYCLES = {1: 1_000, 8: 4_000, 32: 6_400}
ASSIGNED_SHARE_MIN = (
    0.8  # 3 % of the riders have no funds; with more refusals the benchmark would measure refusals
)


@pytest.mark.parametrize("clients", CYCLES)
def bench_booking_one_by_one(benchmark: BenchmarkFixture, env: BenchEnv, clients: int) -> None:
    benchmark.group = "booking and cancelling, one by one"
    cycles = CYCLES[clients]
    runs: list[ClientRun] = []
    pgbench_rates: list[float] = []

    def pgbench() -> None:
        pgbench_rates.append(
            pgbench_cycles_per_second(env.store, clients, cycles, seed=len(pgbench_rates) + 1)
        )

    def ours() -> None:
        runs.append(run_clients(env.store, clients, cycles, seed=len(runs) + 1))

    benchmark.pedantic(ours, setup=pgbench, rounds=ROUNDS)

    assert all(run.assigned >= run.cycles * ASSIGNED_SHARE_MIN for run in runs)
    with env.store.connect() as connection:
        report = audit(connection)
    assert report.passed, report.verdict
    latency_ms = np.concatenate([run.latency_ms for run in runs])
    ratios = sorted(run.cycles_per_second / rate for run, rate in zip(runs, pgbench_rates, strict=True))
    benchmark.extra_info |= {
        "rides_per_second": median(run.cycles_per_second for run in runs),
        "pgbench_rides_per_second": median(pgbench_rates),
        "ratio_to_pgbench": median(ratios),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
        "latency_ms_p50": float(np.percentile(latency_ms, 50)),
        "latency_ms_p99": float(np.percentile(latency_ms, 99)),
        "audit": "passed",
    }
