"""The latency of bookings while another process copies the store or publishes its changes.

The requests are due at random times, at a rate that is a fraction of what the store takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from time import perf_counter

import pytest

from bench.env import SPAWN, BenchEnv
from bench.figure import Cell, Figure
from bench.statistics import percentile
from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.source.copy.throttle import lower_priority
from lakehouse.table.catalog import Lake
from lakehouse.verify import verify_now
from oltp.store import Store
from oltp.workload import simulate
from ridelake.settings import LakeAddress

pytestmark = [pytest.mark.scale("full"), pytest.mark.timeout(1800)]

RIDES_PER_SECOND = 200.0
CLIENTS = 8
WINDOW_SECONDS = 10.0
ROUNDS = 5
SYNC_SECONDS = 1.0

ALONE = "alone"
# Variant → whether it copies all rows, and whether at full speed.
COPIES = {
    "beside a snapshot": (True, False),
    "beside a fast snapshot": (True, True),
    "beside a sync": (False, False),
    "beside a fast sync": (False, True),
}


def bench_live_copy(figure: Figure, env: BenchEnv, tmp_path: Path) -> None:
    figure.title = f"How much does a copy slow down {RIDES_PER_SECOND:.0f} bookings/s?"
    seeds = count(100)
    speeds: dict[str, list[float]] = {name: [] for name in COPIES}
    lakes = {name: LakeAddress.at(tmp_path / name.replace(" ", "-")) for name in COPIES}
    for address in lakes.values():
        publish_snapshot(env.store, Lake.create(address))

    def latency_seconds() -> float:
        done = simulate(
            env.store, seconds=WINDOW_SECONDS, clients=CLIENTS, rate=RIDES_PER_SECOND, seed=next(seeds)
        )
        assert done.audit.passed, done.audit.verdict
        return done.latency_ms_p99 / 1e3

    def beside(name: str) -> float:
        with copying(env.store, lakes[name], *COPIES[name]) as rows_per_second:
            latency = latency_seconds()
        speeds[name] += rows_per_second
        return latency

    times = figure.self_timed(
        {ALONE: latency_seconds, **{name: partial(beside, name) for name in COPIES}}, ROUNDS
    )
    for address in lakes.values():
        lake = Lake.create(address)
        publish_changes(env.store, lake, verify=True)
        verify_now(env.store, lake).prove()
    figure.checked("each window of bookings passed the audit; the last epoch of each lake equals the store")
    for name in COPIES:
        figure.ratio(times.ratio(name, ALONE))
    rows: list[dict[str, Cell]] = [
        {
            "bookings": name,
            "p99 ms": times.median_seconds(name) * 1e3,
            "rows/s of a copy": percentile(speeds[name], 50) if name in speeds else None,
        }
        for name in times.samples
    ]
    figure.table("The 99th percentile of the latency of a booking, and the speed of a copy", rows)


@contextmanager
def copying(store: Store, lake: LakeAddress, complete: bool, fast: bool) -> Iterator[list[float]]:
    """Publish epochs in a separate process during the block: `complete` ones without a pause, or the changes
    every SYNC_SECONDS. After the block, the list has the rows/s of each epoch."""
    speeds: list[float] = []
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(
        target=_copy_until_stopped, args=(theirs, store, lake, complete, fast), name="copy", daemon=True
    )
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield speeds
        ours.send("stop")
        speeds += ours.recv()
    finally:
        ours.close()
        process.join()


def _copy_until_stopped(parent: Pipe, store: Store, address: LakeAddress, complete: bool, fast: bool) -> None:
    lake, speeds = Lake.create(address), list[float]()
    if not fast:
        lower_priority()
    publish_changes(store, lake, fast=True)  # loads what a copy needs
    parent.send("ready")
    while not parent.poll(0 if complete else SYNC_SECONDS):
        began = perf_counter()
        if complete:
            rows = publish_snapshot(store, lake, fast=fast).rows
        else:
            taken = publish_changes(store, lake, fast=fast)
            rows = taken.epoch.changed if taken.is_new else 0
        speeds.append(rows / (perf_counter() - began))
    parent.send(speeds)
