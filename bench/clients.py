"""Clients at the same time: ours in Python, and pgbench doing the same beside them.

A cycle is one booking and its cancellation, so that drivers and money are there for the next one. Both
sides call the same functions of `oltp/booking.sql`, prepared, over the same socket, at the same
durability; only the program that calls differs.
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

from oltp import booking, moves
from oltp.dispatch import BATCH_MAX, Dispatcher
from oltp.pool import Pool
from oltp.programs import binaries
from oltp.simulate import draw_requests, riders_by_city
from oltp.store import Store
from ridelake.errors import RidelakeError
from ridelake.ride import Outcome, RideRequest

DISPATCHED_CONNECTIONS = 3  # two for bookings, one for cancellations
PGBENCH_THREADS_MAX = 2  # as many as the smallest machine has cores


@dataclass(frozen=True, slots=True)
class Run:
    """Cycles of some clients: how many were asked, how many rides were assigned, in what time."""

    clients: int
    cycles: int
    assigned: int
    seconds: float
    latency_ms: NDArray[np.float64]  # of each booking, the cancellation not counted

    @property
    def cycles_per_second(self) -> float:
        return self.cycles / self.seconds


def run_clients(store: Store, clients: int, cycles: int, seed: int) -> Run:
    """`cycles` cycles in all, spread evenly over `clients` threads with a connection each."""
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
                asked = perf_counter()
                decision = booking.book(connection, request)
                latency_ms[number, index] = (perf_counter() - asked) * 1000
                assigned[number] += decision.outcome is Outcome.ASSIGNED
                moves.cancel(connection, decision.ride_id or 0)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    started = perf_counter()
    for thread in threads:
        thread.join()
    return Run(clients, share * clients, sum(assigned), perf_counter() - started, latency_ms.ravel())


def run_dispatched(
    store: Store, callers: int, cycles: int, seed: int, batch_max: int = BATCH_MAX
) -> tuple[Run, float]:
    """The same cycles, asked by `callers` callers in one event loop, through the batching front. Also how
    many requests a batch had on average."""
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
            asked = perf_counter()
            decision = await dispatcher.bookings.ask(request)
            latency_ms.append((perf_counter() - asked) * 1000)
            outcomes[decision.outcome] += 1
            await dispatcher.cancellations.ask(decision.ride_id or 0)

    async def all_callers(dispatcher: Dispatcher) -> float:
        started = perf_counter()
        await asyncio.gather(*(caller(dispatcher, requests) for requests in drawn))
        return perf_counter() - started

    with Pool(store, DISPATCHED_CONNECTIONS) as pool, Dispatcher(pool, batch_max=batch_max) as dispatcher:
        seconds = asyncio.run(all_callers(dispatcher))
        batch_mean = dispatcher.bookings.items / dispatcher.bookings.flushes
    assigned = outcomes[Outcome.ASSIGNED]
    return Run(callers, share * callers, assigned, seconds, np.array(latency_ms)), batch_mean


def pgbench_cycles_per_second(store: Store, clients: int, cycles: int, seed: int) -> float:
    """The same cycles by pgbench. Raises RidelakeError if it failed a transaction."""
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
