"""Bookings per second by the number of stores, each a Postgres server of its own, which share one lake.

The same number of cycles (a booking and its cancellation, as in `bench_booking.py`) is divided among the
stores. The number of client processes is always the same: each sends its cycles to one store. Another process
syncs all stores to the lake meanwhile.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from time import perf_counter

import pytest

from bench.bench_booking import ASSIGNED_SHARE_MIN, book_in_batches
from bench.env import SPAWN, assert_audited, open_env
from bench.figure import Cell, Figure
from lakehouse.capture.publish import publish_changes
from lakehouse.capture.sync_stores import sync_stores
from lakehouse.commands.options import open_for_publishing
from lakehouse.table.catalog import Lake
from lakehouse.table.published import read_epochs
from lakehouse.verify import verify_now
from oltp.store import Store
from ridelake.ride import Outcome
from ridelake.settings import LakeAddress, Settings

pytestmark = [pytest.mark.scale("full"), pytest.mark.named("stores")]

NAMES = ("berlin", "paris", "rome", "oslo")
STORES = (1, 2, 4)
RIDES = 20_000  # past rides of each store
CLIENTS = 4  # processes
CALLERS = 384  # of all processes
CYCLES = 15_360
ROUNDS = 5
SYNC_SECONDS = 1.0


def bench_stores(figure: Figure, tmp_path: Path) -> None:
    figure.title = "How many rides are booked and cancelled per second, by the number of stores of one lake?"
    address = LakeAddress.at(tmp_path / "lake")
    seeds = count(1)
    with ExitStack() as opened:
        stores = {name: opened.enter_context(open_env(RIDES)).store for name in NAMES}
        clients = opened.enter_context(ProcessPoolExecutor(CLIENTS, mp_context=SPAWN))
        variants = {
            _label(number): partial(_cycle_seconds, clients, list(stores.values())[:number], seeds)
            for number in STORES
        }
        with syncing_stores(stores, address):
            times = figure.self_timed(variants, ROUNDS)
        for name, store in stores.items():
            assert_audited(store)
            lake = Lake.create(address, name)
            publish_changes(store, lake, verify=True)
            verify_now(store, lake).prove()
    figure.checked(
        f"at least {ASSIGNED_SHARE_MIN:.0%} of the requests got a driver; each store passed the audit and "
        "equals its tables in the lake"
    )
    one, *others = variants
    for other in others:
        figure.ratio(times.ratio(one, other))
    rows: list[dict[str, Cell]] = [
        {
            "stores": number,
            "rides/s": 1 / times.median_seconds(_label(number)),
            "rides/s of a store": 1 / times.median_seconds(_label(number)) / number,
        }
        for number in STORES
    ]
    figure.table("Bookings while one process publishes all stores every second", rows)
    figure.facts["epochs"] = read_epochs(address, limit=1)[0].number
    figure.warn(
        "all stores and clients share the cores of this machine: the figure shows that stores do not wait "
        "for each other, not what a machine for each store would give"
    )


def _label(stores: int) -> str:
    return f"{stores} store" if stores == 1 else f"{stores} stores"


def _cycle_seconds(clients: Executor, stores: Sequence[Store], seeds: Iterator[int]) -> float:
    """Seconds per cycle, of all stores together."""
    callers, cycles = CALLERS // CLIENTS, CYCLES // CLIENTS
    began = perf_counter()
    shares = [
        clients.submit(_assigned_share, stores[number % len(stores)], callers, cycles, next(seeds))
        for number in range(CLIENTS)
    ]
    share = min(one.result() for one in shares)
    assert share >= ASSIGNED_SHARE_MIN, f"only {share:.0%} of the requests got a driver"
    return (perf_counter() - began) / (cycles * CLIENTS)


def _assigned_share(store: Store, callers: int, cycles: int, seed: int) -> float:
    """In a client process: run the cycles of one store. Returns the share of requests that got a driver."""
    run, _ = book_in_batches(store, callers, cycles, seed)
    return run.outcomes.count(Outcome.ASSIGNED) / len(run.outcomes)


@contextmanager
def syncing_stores(stores: dict[str, Store], address: LakeAddress) -> Iterator[None]:
    """Sync all stores in a separate process during the block, which begins when each has an epoch."""
    ours, theirs = SPAWN.Pipe()
    dsns = {name: store.conninfo for name, store in stores.items()}
    process = SPAWN.Process(target=_sync_until_closed, args=(theirs, dsns, address), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()  # EOFError: the process failed and has printed the error
        yield
    finally:
        ours.close()
        process.join()


def _sync_until_closed(pipe: Pipe, dsns: dict[str, str], address: LakeAddress) -> None:
    openings = {
        name: (dsn, partial(open_for_publishing, Settings(Path("unused"), address, dsn), (), None,
                            by_changes=True, store=name))
        for name, dsn in dsns.items()
    }  # fmt: skip
    published: set[str] = set()
    for report in sync_stores(openings, SYNC_SECONDS):
        if report.error is not None:
            raise report.error
        if report.synced is not None and report.synced.epoch is not None and report.store not in published:
            published.add(report.store)
            if len(published) == len(dsns):
                pipe.send("all published")
        if pipe.poll():
            return
