"""Runs writers and one poller for each rule on one table, at the same time.

Writers and pollers are threads of one process and share its cores. Lags are longer than in separate
processes, for all rules alike.
"""

from collections import ChainMap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from time import monotonic, perf_counter, sleep

from bench.loss.clients import Poller, Writer
from bench.loss.rules import RULES
from bench.loss.table import LossTable, line_of
from oltp.scratch import scratch_on_server
from oltp.store import Store, install_tracking, transaction
from ridelake.queries import load_queries, load_script

QUERIES = load_queries("bench.loss")

SETTLE_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class LossEffort:
    """The length of the run. The copies are compared after `seconds`. If a rule that loses rows has lost none
    yet, the writers continue for the same time, up to `seconds_max` in total."""

    seconds: float = 12.0
    seconds_max: float = 36.0
    writers: int = 6
    poll_seconds: float = 0.1
    seed: int = 1


def measure_loss(server: str, effort: LossEffort) -> LossTable:
    """Measure in a new database on the server of the connection string `server`."""
    with scratch_on_server(server) as scratch:
        store = Store(scratch.dsn, scratch.small.server_version)
        with store.connect() as connection:
            with transaction(connection):
                install_tracking(connection)
            connection.execute(load_script("bench.loss", "loss_rows.sql"))
        pollers = [Poller(rule) for rule in RULES]
        writers = [Writer(number, effort.seed) for number in range(effort.writers)]
        seconds = 0.0
        while True:
            seconds += _write_and_poll(store, writers, pollers, effort)
            table = _compared(store, writers, pollers, effort, seconds)
            if table.void is None or seconds >= effort.seconds_max:
                return table


def _write_and_poll(
    store: Store, writers: Sequence[Writer], pollers: Sequence[Poller], effort: LossEffort
) -> float:
    """Run until the writers end and each poller has polled twice more. Returns the seconds of the writing."""
    stopped = Event()
    started = perf_counter()
    with ThreadPoolExecutor(len(writers) + len(pollers)) as pool:
        polling = [pool.submit(one.poll_until, store, stopped, effort.poll_seconds) for one in pollers]
        writing = [pool.submit(one.write_until, store, started + effort.seconds) for one in writers]
        try:
            for one in writing:
                one.result()
        finally:
            stopped.set()
        seconds = perf_counter() - started
        for one in polling:
            one.result()
    _wait_for_the_watermark(store)
    for poller in pollers:
        poller.poll_twice(store)
    return seconds


def _wait_for_the_watermark(store: Store) -> None:
    """Other transactions on the server may hold back the watermark: their rows would be late, not lost."""
    deadline = monotonic() + SETTLE_SECONDS_MAX
    with store.connect() as connection:
        while connection.execute(QUERIES["settled"]).fetchone() != (True,) and monotonic() < deadline:
            sleep(0.05)


def _compared(
    store: Store, writers: Sequence[Writer], pollers: Sequence[Poller], effort: LossEffort, seconds: float
) -> LossTable:
    with store.connect() as connection:
        truth: dict[int, str] = dict(connection.execute(QUERIES["truth"]).fetchall())
    committed = ChainMap(*(writer.committed for writer in writers))
    return LossTable(
        rules=tuple(line_of(poller, truth, committed) for poller in pollers),
        rows=len(truth),
        versions=len(committed),
        transactions=sum(writer.transactions for writer in writers),
        long_transactions=sum(writer.long for writer in writers),
        writers=effort.writers,
        poll_seconds=effort.poll_seconds,
        seconds=seconds,
        seed=effort.seed,
        server_version=store.server_version,
    )
