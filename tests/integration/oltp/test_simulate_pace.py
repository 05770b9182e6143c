"""The schedule of a simulation: arrivals do not depend on the clients, and latencies include all waits."""

import time

import numpy as np
import pytest

from oltp.store import Store
from oltp.workload import simulate
from oltp.workload.metrics import BUCKETS, LatencyHistogram, Metrics
from oltp.workload.schedule import ArrivalMode, ArrivalSchedule
from ridelake.ride import Decision, Outcome, new_request_id


def test_percentiles_of_the_histogram_are_within_one_percent():
    metrics = Metrics()
    seconds = np.exp(np.random.default_rng(1).normal(-6, 1.5, 20_000))
    decision = Decision(new_request_id(), Outcome.ASSIGNED, 1, 1)
    for value in seconds.tolist():
        metrics.decided(decision, value)
    counted = metrics.seen().latencies
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        exact = np.quantile(seconds, share, method="inverted_cdf") * 1e3
        assert counted.milliseconds(share) == pytest.approx(exact, rel=0.01)
    assert counted.milliseconds(1.0) == pytest.approx(seconds.max() * 1e3, rel=0.01)
    assert counted.seconds_max == seconds.max()
    assert len(counted.counts) == BUCKETS
    assert LatencyHistogram([0] * BUCKETS, 0.0).milliseconds(0.5) == 0.0


def test_arrivals_are_a_poisson_process_of_the_rate_and_the_seed():
    first, again = (
        np.array([arrivals.gap_seconds() for _ in range(20_000)])
        for arrivals in (ArrivalMode(np.random.default_rng(5), 200) for _ in range(2))
    )
    assert (first == again).all()
    assert first.mean() == pytest.approx(1 / 200, rel=0.03)
    assert first.std() == pytest.approx(first.mean(), rel=0.03)  # as in an exponential distribution


def test_millions_of_overdue_requests_are_counted_in_one_step():
    empty = iter(())
    arrivals = ArrivalMode(np.random.default_rng(1), 1_000_000)
    schedule = ArrivalSchedule(empty, empty, arrivals, rides=None, seconds=3_600)
    schedule.begin()
    began = time.perf_counter()
    count = schedule.overdue(schedule.began + 3_600)
    assert time.perf_counter() - began < 1
    assert count == pytest.approx(3.6e9, rel=1e-3)
    few = ArrivalSchedule(empty, empty, arrivals, rides=7, seconds=None)
    few.begin()
    assert few.overdue(few.began + 3_600) == 7
    assert few.overdue(few.began) == 0


def test_an_open_loop_below_capacity_ends_on_time(seeded_store: Store):
    done = simulate(seeded_store, seconds=2, rate=40, clients=12)
    assert done.loop == "open"
    assert 50 < done.requested < 115
    assert done.overdue is not None
    assert done.overdue <= 2
    assert done.seconds < 3.5


@pytest.mark.parametrize("batch", [False, True], ids=["one by one", "batch"])
def test_an_open_loop_above_capacity_skips_no_request_and_counts_every_wait(seeded_store: Store, batch: bool):
    done = simulate(seeded_store, rides=300, rate=50_000, clients=2, batch=batch)
    assert done.requested == 300
    assert done.behind_seconds is not None
    assert done.behind_seconds > 0.5 * done.seconds, "the last request was not sent near the end"
    half = done.seconds * 1e3 / 2
    assert done.latency_ms_p50 == pytest.approx(half, rel=0.5), "the wait for a free client is not counted"
    assert done.latency_ms_max > 1.5 * half


def test_an_open_loop_with_a_time_limit_reports_the_overdue_requests(seeded_store: Store):
    done = simulate(seeded_store, seconds=1, rate=5_000, clients=2)
    assert done.overdue is not None
    assert 4_000 < done.requested + done.overdue < 6_000
    assert done.behind_seconds is not None
    assert 0.5 < done.behind_seconds < 1
