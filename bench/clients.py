"""Concurrent booking clients in Python, and pgbench with the same workload.

A cycle is a booking and its cancellation, so that drivers and money stay available. Both call the same
functions of `oltp/booking.sql`, prepared, over the same socket and with the same durability. Only the client
program differs.
"""

import asyncio
import re
import subprocess
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from importlib.resources import as_file, files
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from oltp import booking, lifecycle
from oltp.batching import BATCH_MAX, Dispatcher
from oltp.cluster.process import binaries
from oltp.pool import RetryPool
from oltp.store import Store
from oltp.workload import draw_requests, riders_by_city
from ridelake.errors import RidelakeError
from ridelake.ride import Outcome, RideRequest

DISPATCHED_CONNECTIONS = 3  # two for bookings, one for cancellations
PGBENCH_THREADS_MAX = 2  # the cores of the smallest machine


@dataclass(frozen=True, slots=True)
class ClientRun:
    """The cycles of some clients: number, assigned rides and time."""

    clients: int
    cycles: int
    assigned: int
    seconds: float
    latency_ms: NDArray[np.float64]  # of each booking, without the cancellation

    @property
    def cycles_per_second(self) -> float:
        return self.cycles / self.seconds


def run_clients(store: Store, clients: int, cycles: int, seed: int) -> ClientRun:
    """Run `cycles` cycles, divided among `clients` threads with a connection each."""
    riders_of = riders_by_city(store)
    share = cycles // clients
    latency_ms = np.zeros((clients, share))
    assigned = [0] * clients
    ready = threading.Barrier(clients + 1)

    def client(number: int) -> None:
        requests = draw_requests(np.random.default_rng([seed, number]), riders_of)
        drawn = [next(requests) for _ in range(share)]
        with store.connect() as connection:
            ready.wait()
            for index, request in enumerate(drawn):
                started = perf_counter()
                decision = booking.book(connection, request)
                latency_ms[number, index] = (perf_counter() - started) * 1000
                assigned[number] += decision.outcome is Outcome.ASSIGNED
                lifecycle.cancel(connection, decision.ride_id or 0)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    started = perf_counter()
    for thread in threads:
        thread.join()
    return ClientRun(clients, share * clients, sum(assigned), perf_counter() - started, latency_ms.ravel())


def run_dispatched(
    store: Store, callers: int, cycles: int, seed: int, batch_max: int = BATCH_MAX
) -> tuple[ClientRun, float]:
    """Run the same cycles by `callers` callers in one event loop, through the dispatcher. Also returns the
    mean number of requests per batch."""
    riders_of = riders_by_city(store)
    share = cycles // callers
    drawn = [
        [next(requests) for _ in range(share)]
        for requests in (draw_requests(np.random.default_rng([seed, k]), riders_of) for k in range(callers))
    ]
    latency_ms: list[float] = []
    outcomes: Counter[Outcome] = Counter()

    async def caller(dispatcher: Dispatcher, requests: list[RideRequest]) -> None:
        for request in requests:
            started = perf_counter()
            decision = await dispatcher.bookings.ask(request)
            latency_ms.append((perf_counter() - started) * 1000)
            outcomes[decision.outcome] += 1
            await dispatcher.cancellations.ask(decision.ride_id or 0)

    async def all_callers(dispatcher: Dispatcher) -> float:
        started = perf_counter()
        await asyncio.gather(*(caller(dispatcher, requests) for requests in drawn))
        return perf_counter() - started

    with (
        RetryPool(store, DISPATCHED_CONNECTIONS) as pool,
        Dispatcher(pool, batch_max=batch_max) as dispatcher,
    ):
        seconds = asyncio.run(all_callers(dispatcher))
        batch_mean = dispatcher.bookings.items / dispatcher.bookings.flushes
    assigned = outcomes[Outcome.ASSIGNED]
    return ClientRun(callers, share * callers, assigned, seconds, np.array(latency_ms)), batch_mean


def pgbench_cycles_per_second(store: Store, clients: int, cycles: int, seed: int) -> float:
    """Run the same cycles by pgbench. Raises RidelakeError if a transaction fails."""
    rider_ids = [rider_id for riders in riders_by_city(store).values() for rider_id in riders]
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
