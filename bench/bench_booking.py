"""Bookings one by one and in batches, compared with pgbench, and their latency in an open loop.

A cycle is a booking and its cancellation, so that drivers and money stay available. pgbench and the Python
clients call the same functions of `oltp/booking.sql`, prepared, over the same socket and with the same
durability. Only the client program differs.

A closed loop sends fewer requests while the server is slow and underestimates the tail. In the open loop the
latency is measured from the time when a request was due. The rate is a share of the peak that the same
workload reached before.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.resources import as_file, files
from itertools import chain, count, islice
from statistics import median
from time import perf_counter, sleep

import numpy as np
import pytest
from psycopg import IsolationLevel

from bench.env import BenchEnv, assert_audited
from bench.figure import Cell, Figure, VariantTimes
from bench.statistics import percentile
from oltp import booking, lifecycle
from oltp.batching import Batcher
from oltp.cluster.process import binaries
from oltp.pool import RetryPool
from oltp.store import Store, transaction
from oltp.workload import SimulationResult, draw_requests, riders_by_city, simulate
from oltp.workload.runner import ClientGroup, in_one_thread, run_clients
from ridelake.errors import RidelakeError
from ridelake.queries import load_queries
from ridelake.ride import Outcome, RideRequest

QUERIES = load_queries("bench")

pytestmark = pytest.mark.scale("full")

ROUNDS = 5
CYCLES = {1: 1_000, 8: 4_000, 32: 6_400}  # bookings, by number of clients
# 3 % of the riders have no funds; with more refusals the benchmark would measure refusals.
ASSIGNED_SHARE_MIN = 0.8
CALLERS = 384
CALLER_CYCLES = 15_360
CONNECTIONS = 3  # two for bookings, one for cancellations
PGBENCH, RIDELAKE = "pgbench", "ridelake"
PGBENCH_CLIENTS = (8, 16, 32)  # the fastest of these is compared
PGBENCH_CYCLES = 3_200
PGBENCH_THREADS_MAX = 2  # the cores of the smallest machine
CYCLES_BY_BATCH_SIZE = {1: 800, 8: 2_400, 64: 6_400, 512: 10_240}

PEAK_SECONDS = 6.0
OPEN_LOOP_SECONDS = 12.0
READER_SECONDS = 60.0
CLOSED_LOOP_CLIENTS = {"one by one": 8, "batch": 384}  # the fastest on two cores
OPEN_LOOP_CLIENTS = {"one by one": 32, "batch": 1_024}  # maximum number of concurrent requests


@dataclass(frozen=True, slots=True)
class BookingRun:
    """`latencies`: seconds of each booking, without its cancellation."""

    outcomes: list[Outcome]
    latencies: list[float]
    seconds: float

    @property
    def cycle_seconds(self) -> float:
        return self.seconds / len(self.outcomes)


@pytest.mark.parametrize("clients", CYCLES)
def bench_booking_one_by_one(figure: Figure, env: BenchEnv, clients: int) -> None:
    figure.title = f"How many rides are booked and cancelled one by one? Clients: {clients}"
    cycles, seeds, runs = CYCLES[clients], count(1), []

    def ours() -> float:
        runs.append(book_one_by_one(env.store, clients, cycles, next(seeds)))
        return runs[-1].cycle_seconds

    pgbench = partial(_pgbench_cycle_seconds, env.store, (clients,), cycles, seeds)
    times = figure.self_timed({PGBENCH: pgbench, RIDELAKE: ours}, ROUNDS)
    _report(figure, env.store, times, runs)


def bench_booking_in_batches(figure: Figure, env: BenchEnv) -> None:
    """Many callers share one batcher, which chooses the batch sizes. pgbench books one ride per
    transaction."""
    figure.title = f"How many rides are booked and cancelled in batches, by {CALLERS} callers?"
    seeds, runs, batch_means = count(1), [], []

    def ours() -> float:
        run, batch_mean = book_in_batches(env.store, CALLERS, CALLER_CYCLES, next(seeds))
        runs.append(run)
        batch_means.append(batch_mean)
        return run.cycle_seconds

    pgbench = partial(_pgbench_cycle_seconds, env.store, PGBENCH_CLIENTS, PGBENCH_CYCLES, seeds)
    times = figure.self_timed({PGBENCH: pgbench, RIDELAKE: ours}, ROUNDS)
    _report(figure, env.store, times, runs)
    figure.facts["mean batch"] = median(batch_means)


def _report(figure: Figure, store: Store, times: VariantTimes, runs: Sequence[BookingRun]) -> None:
    for run in runs:
        _assert_assigned(run.outcomes)
    assert_audited(store)
    figure.checked(f"at least {ASSIGNED_SHARE_MIN:.0%} of the requests got a driver; the audit passed")
    figure.ratio(times.ratio(PGBENCH, RIDELAKE))
    milliseconds = 1e3 * np.concatenate([run.latencies for run in runs])
    figure.facts |= {
        "rides/s": 1 / times.median_seconds(RIDELAKE),
        "rides/s of pgbench": 1 / times.median_seconds(PGBENCH),
        "booking p50 ms": percentile(milliseconds, 50),
        "booking p99 ms": percentile(milliseconds, 99),
    }


def _assert_assigned(outcomes: Sequence[Outcome]) -> None:
    assert outcomes.count(Outcome.ASSIGNED) >= len(outcomes) * ASSIGNED_SHARE_MIN


def book_one_by_one(store: Store, clients: int, cycles: int, seed: int) -> BookingRun:
    """Run `cycles` cycles, divided among `clients` threads with a connection each."""
    outcomes: list[Outcome] = []

    def client(requests: list[RideRequest], group: ClientGroup) -> None:
        with store.connect() as connection:
            group.together()
            for request in requests:
                decision = group.timed(partial(booking.book, connection, request))
                outcomes.append(decision.outcome)
                lifecycle.cancel(connection, decision.ride_id or 0)

    group = run_clients(
        [partial(client, drawn) for drawn in _requests_by_client(store, clients, cycles, seed)]
    )
    return BookingRun(outcomes, group.latencies, group.seconds)


def book_in_batches(store: Store, callers: int, cycles: int, seed: int) -> tuple[BookingRun, float]:
    """Run the same cycles by `callers` callers in one event loop, through the batcher. Also returns the
    mean number of requests per batch."""
    outcomes: list[Outcome] = []
    with RetryPool(store, CONNECTIONS) as pool, Batcher(pool) as batcher:

        async def caller(requests: list[RideRequest], group: ClientGroup) -> None:
            for request in requests:
                began = perf_counter()
                decision = await batcher.bookings.ask(request)
                group.latencies.append(perf_counter() - began)
                outcomes.append(decision.outcome)
                await batcher.cancellations.ask(decision.ride_id or 0)

        callers_of_one = [
            partial(caller, drawn) for drawn in _requests_by_client(store, callers, cycles, seed)
        ]
        group = run_clients([in_one_thread(callers_of_one)])
        batch_mean = batcher.bookings.items / batcher.bookings.flushes
    return BookingRun(outcomes, group.latencies, group.seconds), batch_mean


def _requests_by_client(store: Store, clients: int, cycles: int, seed: int) -> list[list[RideRequest]]:
    """The requests of each client. All ids differ, because the store only looks up a repeated request."""
    riders_of = riders_by_city(store)
    generators = (np.random.default_rng([seed, clients, number]) for number in range(clients))
    return [list(islice(draw_requests(one, riders_of), cycles // clients)) for one in generators]


def _pgbench_cycle_seconds(store: Store, clients: Sequence[int], cycles: int, seeds: Iterator[int]) -> float:
    """Seconds per cycle of pgbench, with the best of these numbers of clients."""
    return min(1 / pgbench_cycles_per_second(store, number, cycles, next(seeds)) for number in clients)


def pgbench_cycles_per_second(store: Store, clients: int, cycles: int, seed: int) -> float:
    """Run the same cycles by pgbench. Raises RidelakeError if a transaction fails."""
    rider_ids = list(chain.from_iterable(riders_by_city(store).values()))
    with (
        as_file(files("bench").joinpath("booking_cycle.pgbench")) as script,
        tempfile.TemporaryDirectory() as here,
    ):
        done = subprocess.run(
            [
                *(binaries() / "pgbench", "--no-vacuum", "--protocol=prepared", f"--random-seed={seed}"),
                *(f"--client={clients}", f"--jobs={min(clients, PGBENCH_THREADS_MAX)}"),
                *(f"--define=rider_first={min(rider_ids)}", f"--define=rider_last={max(rider_ids)}"),
                *(f"--transactions={cycles // clients}", "--file", script, store.conninfo),
            ],
            capture_output=True,
            text=True,
            cwd=here,
            check=False,
        )
    speed = re.search(r"^tps = ([\d.]+)", done.stdout, flags=re.MULTILINE)
    failed = re.search(r"^number of failed transactions: (\d+)", done.stdout, flags=re.MULTILINE)
    if done.returncode != 0 or speed is None or failed is None or failed[1] != "0":
        raise RidelakeError(f"pgbench failed: {done.stderr.strip()[-300:]}")
    return float(speed[1])


def bench_batch_size(figure: Figure, env: BenchEnv) -> None:
    figure.title = "How many rides does one connection book and cancel, by batch size?"
    latencies: dict[int, list[float]] = {size: [] for size in CYCLES_BY_BATCH_SIZE}
    outcomes: list[Outcome] = []
    requests = draw_requests(np.random.default_rng(len(latencies)), riders_by_city(env.store))

    def book_and_cancel(size: int) -> float:
        batches = [list(islice(requests, size)) for _ in range(CYCLES_BY_BATCH_SIZE[size] // size)]
        began = perf_counter()
        for batch in batches:
            batch_began = perf_counter()
            decisions = booking.book_many(connection, batch)
            latencies[size].append(perf_counter() - batch_began)
            outcomes.extend(one.outcome for one in decisions)
            lifecycle.cancel_many(connection, [one.ride_id for one in decisions if one.ride_id is not None])
        return (perf_counter() - began) / (size * len(batches))

    variants: dict[str, Callable[[], float]] = {
        f"batches of {size}": partial(book_and_cancel, size) for size in CYCLES_BY_BATCH_SIZE
    }
    with env.store.connect() as connection:
        times = figure.self_timed(variants, ROUNDS)
    _assert_assigned(outcomes)
    assert_audited(env.store)
    figure.checked(f"at least {ASSIGNED_SHARE_MIN:.0%} of the requests got a driver; the audit passed")
    one, *others = variants
    for other in others:
        figure.ratio(times.ratio(one, other))
    rows: list[dict[str, Cell]] = [
        {
            "batch": size,
            "rides/s": 1 / times.median_seconds(f"batches of {size}"),
            "batch p50 ms": 1e3 * percentile(taken, 50),
            "batch p99 ms": 1e3 * percentile(taken, 99),
        }
        for size, taken in latencies.items()
    ]
    figure.table("One connection", rows)


@pytest.mark.parametrize("mode", CLOSED_LOOP_CLIENTS)
def bench_latency_at_half_of_the_peak(figure: Figure, env: BenchEnv, mode: str) -> None:
    figure.title = f"How long does a booking take at half of the peak rate, {mode}?"
    peak = _peak_rate(env.store, mode)
    done = figure.once(lambda: _open_loop(env.store, mode, peak / 2, OPEN_LOOP_SECONDS))
    figure.checked(done.audit.verdict)
    figure.facts |= {
        "peak requests/s": peak,
        "requests/s": done.rate,
        "booking p50 ms": done.latency_ms_p50,
        "booking p99 ms": done.latency_ms_p99,
        "slowest booking ms": done.latency_ms_max,
        "seconds behind the schedule": done.behind_seconds,
    }


def bench_booking_beside_a_long_reader(figure: Figure, env: BenchEnv) -> None:
    """A REPEATABLE READ transaction is open for a minute, so dead rows cannot be removed."""
    figure.title = f"How long does a booking take while a reader holds a snapshot for {READER_SECONDS:.0f} s?"
    rate = _peak_rate(env.store, "one by one") / 2
    without_reader = _run_and_count_updates(env.store, rate, OPEN_LOOP_SECONDS, held=False)
    held = figure.once(lambda: _run_and_count_updates(env.store, rate, READER_SECONDS, held=True))
    figure.checked(held.done.audit.verdict)
    figure.table(
        f"{rate:,.0f} requests/s in an open loop",
        [
            {
                "reader": reader,
                "booking p99 ms": one.done.latency_ms_p99,
                "updates of drivers": one.updates,
                "share without an index update (HOT)": one.hot_share,
            }
            for reader, one in (("none", without_reader), ("holds a snapshot", held))
        ],
    )


@dataclass(frozen=True, slots=True)
class DriverUpdates:
    """The result of a run, and how many updates of `drivers` it made."""

    done: SimulationResult
    updates: int
    hot_share: float


def _peak_rate(store: Store, mode: str) -> float:
    """Requests/s in the closed loop."""
    done = simulate(
        store, seconds=PEAK_SECONDS, clients=CLOSED_LOOP_CLIENTS[mode], batch=mode == "batch", seed=1
    )
    assert done.audit.passed, done.audit.verdict
    return done.requested / done.seconds


def _open_loop(store: Store, mode: str, rate: float, seconds: float) -> SimulationResult:
    done = simulate(
        store, seconds=seconds, clients=OPEN_LOOP_CLIENTS[mode], rate=rate, batch=mode == "batch", seed=2
    )
    assert done.audit.passed, done.audit.verdict
    return done


def _run_and_count_updates(store: Store, rate: float, seconds: float, *, held: bool) -> DriverUpdates:
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
