"""Rows that are lost when a table is polled: six rules copy the same table, each into its own copy.

    writer     long transactions, savepoints, rollbacks, updates, deletes, ids drawn early and used late
    rules      the conditions for new rows: by id, by timestamp, by xmin, by watermark, by the difference of
               two snapshots
    poller     applies a rule to a copy, which is compared with the table after the writers have ended

A row is lost if the copy does not have it (`missing`) or has an old version (`outdated`). `undeleted` is the
number of rows that were deleted from the table and are still in the copy. `duplicates` is the number of
versions that were read twice. The rule by id never sees updates; compare its missing rows only.

Writers and pollers are threads of one process. For all rules alike, lags are longer than in separate
processes.
"""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from time import monotonic, sleep

import pytest

from bench.env import SEED, BenchEnv
from bench.figure import Cell, Figure
from bench.polling import QUERIES, RULES, SNAPSHOT_DIFFERENCE, Copy, Poller, Writer
from bench.statistics import percentile
from oltp.scratch import scratch_on_server
from oltp.store import Store, install_tracking, transaction
from oltp.workload.runner import run_clients, running_clients
from ridelake.queries import load_script

SETTLE_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class CopyDifference:
    """The differences of a copy from the table, row by row."""

    missing: int  # in the table, not in the copy
    outdated: int  # in both, but not in the same version
    undeleted: int  # in the copy, though deleted from the table

    @property
    def lost(self) -> int:
        return self.missing + self.outdated


def compare(copy: Mapping[int, str], truth: Mapping[int, str]) -> CopyDifference:
    return CopyDifference(
        missing=len(truth.keys() - copy.keys()),
        outdated=sum(copy[id_] != truth[id_] for id_ in truth.keys() & copy.keys()),
        undeleted=len(copy.keys() - truth.keys()),
    )


@dataclass(frozen=True, slots=True)
class RuleLoss:
    """One line of the table. A lag is the time from the end of the COMMIT until the poller read the version;
    versions that were never read have none."""

    rule: str
    condition: str
    can_lose: bool  # whether the rule can lose rows, not whether it did
    lost: int
    lost_share: float  # lost rows per row in the table
    missing: int
    outdated: int
    undeleted: int
    duplicates: int
    polls: int
    lag_ms_p50: float
    lag_ms_p99: float

    @property
    def equal(self) -> bool:
        """Whether the copy equals the table and no version was read twice."""
        return self.lost == self.undeleted == self.duplicates == 0


@dataclass(frozen=True, slots=True)
class LossTable:
    rules: tuple[RuleLoss, ...]
    rows: int  # in the table at the end
    versions: int  # committed
    transactions: int
    long_transactions: int
    writers: int
    poll_seconds: float
    seconds: float  # of writing
    seed: int
    server_version: int

    def __getitem__(self, rule: str) -> RuleLoss:
        return next(line for line in self.rules if line.rule == rule)

    @property
    def snapshot_difference(self) -> RuleLoss:
        return self[SNAPSHOT_DIFFERENCE.name]

    @property
    def inconclusive_reason(self) -> str | None:
        """The reason why the run is inconclusive, or None. Each rule that can lose rows must have missed a
        row. Old versions do not count, because the rule `id` never sees updates."""
        without_loss = [line.rule for line in self.rules if line.can_lose and not line.missing]
        if not without_loss:
            return None
        return (
            f"{' and '.join(without_loss)} missed no row in {self.seconds:.0f} s with {self.writers} "
            "writers; the load is too low on this machine to compare the rules"
        )


def loss_of(poller: Poller, truth: Mapping[int, str], committed: Mapping[str, float]) -> RuleLoss:
    """The line of one poller. `committed` has the commit time of each version."""
    found = compare(poller.copy.rows, truth)
    p50, p99 = lag_ms(poller.copy, committed)
    return RuleLoss(
        rule=poller.rule.name,
        condition=poller.rule.condition,
        can_lose=poller.rule.can_lose,
        lost=found.lost,
        lost_share=found.lost / max(len(truth), 1),
        missing=found.missing,
        outdated=found.outdated,
        undeleted=found.undeleted,
        duplicates=poller.copy.duplicates,
        polls=poller.polls,
        lag_ms_p50=p50,
        lag_ms_p99=p99,
    )


def lag_ms(copy: Copy, committed: Mapping[str, float]) -> tuple[float, float]:
    """p50 and p99. A row that is read before its writer receives the end of the COMMIT has a lag of 0. Raises
    KeyError for a version that was not committed."""
    lags = [max(0.0, at - committed[payload]) * 1000 for payload, at in copy.arrived.items()]
    if not lags:
        return 0.0, 0.0
    return percentile(lags, 50), percentile(lags, 99)


@dataclass(frozen=True, slots=True)
class LossConfig:
    """The copies are compared after `seconds`. If a rule that can lose rows has lost none, the writers run
    for another `seconds`, up to `seconds_max` in total."""

    seconds: float = 12.0
    seconds_max: float = 36.0
    writers: int = 6
    poll_seconds: float = 0.1
    seed: int = 1


def measure_loss(server: str, config: LossConfig) -> LossTable:
    """Measure in a new database on the server of the connection string `server`."""
    with scratch_on_server(server) as scratch:
        store = Store(scratch.dsn, scratch.small.server_version)
        with store.connect() as connection:
            with transaction(connection):
                install_tracking(connection)
            connection.execute(load_script("bench", "polled_rows.sql"))
        pollers = [Poller(rule) for rule in RULES]
        writers = [Writer(number, config.seed) for number in range(config.writers)]
        seconds = 0.0
        while True:
            seconds += _write_and_poll(store, writers, pollers, config)
            table = _compared(store, writers, pollers, config, seconds)
            if table.inconclusive_reason is None or seconds >= config.seconds_max:
                return table


def _write_and_poll(
    store: Store, writers: Sequence[Writer], pollers: Sequence[Poller], config: LossConfig
) -> float:
    """Run until the writers end and each poller has polled twice more. Returns the seconds of the writing."""
    polling = [partial(one.poll_until_stopped, store, config.poll_seconds) for one in pollers]
    writing = [partial(one.write_until_stopped, store) for one in writers]
    with running_clients(polling):
        seconds = run_clients(writing, seconds=config.seconds).seconds
    _wait_for_the_watermark(store)
    for poller in pollers:
        poller.poll_twice(store)
    return seconds


def _wait_for_the_watermark(store: Store) -> None:
    """Wait until no transaction on the server holds back the watermark. Otherwise delayed rows count as
    lost."""
    deadline = monotonic() + SETTLE_SECONDS_MAX
    with store.connect() as connection:
        while connection.execute(QUERIES["settled"]).fetchone() != (True,) and monotonic() < deadline:
            sleep(0.05)


def _compared(
    store: Store, writers: Sequence[Writer], pollers: Sequence[Poller], config: LossConfig, seconds: float
) -> LossTable:
    with store.connect() as connection:
        truth: dict[int, str] = dict(connection.execute(QUERIES["truth"]).fetchall())
    committed = ChainMap(*(writer.committed for writer in writers))
    return LossTable(
        rules=tuple(loss_of(poller, truth, committed) for poller in pollers),
        rows=len(truth),
        versions=len(committed),
        transactions=sum(writer.transactions for writer in writers),
        long_transactions=sum(writer.long for writer in writers),
        writers=config.writers,
        poll_seconds=config.poll_seconds,
        seconds=seconds,
        seed=config.seed,
        server_version=store.server_version,
    )


@pytest.mark.scale("full")
def bench_what_polling_loses(figure: Figure, env: BenchEnv) -> None:
    """Fails if the copy by snapshot difference differs from the table, or a rule that can lose rows lost
    none."""
    figure.title = "How many rows does polling a table lose?"
    config = LossConfig(seconds=30.0, seconds_max=120.0, seed=SEED)
    table = figure.once(lambda: measure_loss(env.store.conninfo, config))
    assert table.snapshot_difference.equal, table.snapshot_difference
    assert table.inconclusive_reason is None, table.inconclusive_reason
    figure.checked(
        "the copy by snapshot difference equals the table; every rule that can lose rows has lost some"
    )
    figure.rows = table.rows
    figure.table("Six polling rules on one table with the same writers", [_row(line) for line in table.rules])
    figure.facts |= {
        "writers": table.writers,
        "transactions_per_second": table.transactions / table.seconds,
        "long_transactions": table.long_transactions,
        "versions": table.versions,
        "poll_ms": table.poll_seconds * 1000,
    }


def _row(line: RuleLoss) -> dict[str, Cell]:
    columns = ("missing", "outdated", "undeleted", "duplicates", "lag_ms_p50", "lag_ms_p99")
    shown = asdict(line)
    return {
        "rule": line.rule,
        "lost": line.lost,
        "lost_percent": 100 * line.lost_share,
        **{name: shown[name] for name in columns},
    }
