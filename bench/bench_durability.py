"""The latency of each level of `synchronous_commit`, and which commits a level may lose.

The benchmark starts a primary and a synchronous standby, as `ridelake drill` does. Both are on this machine
and share its disk. Between two machines, a network round trip is added to the last three levels.
"""

from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter

import numpy as np
import pytest
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Literal

from bench.env import SEED
from bench.figure import Axis, Chart, Figure, Series
from bench.statistics import percentile, rotated
from oltp import booking, lifecycle
from oltp.audit import audit
from oltp.connection import wait_until_durable
from oltp.drill.failover import prepare_store
from oltp.drill.pair import DATABASE, ServerPair, open_pair
from oltp.store import Store, open_database
from oltp.workload import draw_requests, riders_by_city
from ridelake.queries import load_queries
from ridelake.ride import RideRequest

QUERIES = load_queries("bench")

# From the weakest to the strongest guarantee.
MAY_LOSE = {
    "off": "up to 0.6 s of commits, in a server crash",
    "local": "commits not yet on the standby, in a failover",
    "remote_write": "the same, if the standby's machine fails at the same time",
    "on": "nothing, unless both disks are lost",
    "remote_apply": "nothing, unless both disks are lost; visible on the standby",
}
BATCH = 64
DRIVERS = 1_000
COMMITS_A_ROUND = 100
BATCHES_A_ROUND = 6


@dataclass(slots=True)
class Level:
    """Seconds of each commit, and of each batch of `BATCH` rides."""

    alone: list[float] = field(default_factory=list)
    batched: list[float] = field(default_factory=list)


@pytest.mark.scale("default")
def bench_durability(figure: Figure) -> None:
    figure.title = "How much latency does a durable commit cost?"
    levels = {name: Level() for name in MAY_LOSE}
    with open_pair(synchronous=True, prepare=_prepare) as pair:
        store = open_database(pair.dsn)
        figure.once(lambda: _run_interleaved(store, levels, rounds=figure.scale.rounds_min))
        _check(pair, store)
    figure.checked("at the end the standby has all decisions of the primary, and the audit holds on both")
    figure.table("Commits one by one and in batches", [_row(name, level) for name, level in levels.items()])
    x = list(levels)
    figure.chart(
        Chart(
            kind="bars",
            title="Latency of one commit",
            x=Axis("synchronous_commit"),
            y=Axis("ms", log=True),
            series=[
                Series("p50", [*x], [_milliseconds(level.alone, 50) for level in levels.values()]),
                Series("p99", [*x], [_milliseconds(level.alone, 99) for level in levels.values()]),
            ],
        )
    )


def _prepare(conninfo: str) -> None:
    prepare_store(conninfo)
    with open_database(make_conninfo(conninfo, dbname=DATABASE)).connect() as connection:
        connection.execute(QUERIES["more_drivers"], {"drivers": DRIVERS})


def _run_interleaved(store: Store, levels: dict[str, Level], rounds: int) -> None:
    requests = draw_requests(np.random.default_rng(SEED), riders_by_city(store))
    names = list(levels)
    with store.connect() as connection:
        for number in range(rounds + 1):
            for name in rotated(names, number):
                connection.execute(SQL("SET synchronous_commit = {}").format(Literal(name)))
                # The first round warms up.
                level = levels[name] if number else Level()
                level.alone += [_seconds(connection, [one]) for one in islice(requests, COMMITS_A_ROUND // 2)]
                for _ in range(BATCHES_A_ROUND // 2):
                    level.batched.append(_seconds(connection, list(islice(requests, BATCH))))


def _seconds(connection: Connection[TupleRow], requests: list[RideRequest]) -> float:
    """The seconds to book the rides in one commit. A second commit, which is not timed, cancels them."""
    began = perf_counter()
    decisions = booking.book_many(connection, requests)
    seconds = perf_counter() - began
    lifecycle.cancel_many(connection, [one.ride_id for one in decisions if one.ride_id is not None])
    return seconds


def _check(pair: ServerPair, store: Store) -> None:
    with store.connect() as connection:
        connection.execute("SET synchronous_commit = remote_apply")
        wait_until_durable(connection)
    conninfo = make_conninfo(pair.standby.conninfo, dbname=DATABASE, options="-c search_path=ridelake")
    counts = []
    for one in (store, Store(conninfo, store.server_version)):
        with one.connect() as connection:
            rows = connection.execute("SELECT outcome, count(*) FROM requests GROUP BY 1 ORDER BY 1")
            counts.append(rows.fetchall())
            report = audit(connection)
            assert report.passed, report.verdict
    assert counts[0] == counts[1]


def _row(name: str, level: Level) -> dict[str, str | int | float | None]:
    return {
        "synchronous_commit": name,
        "one by one: p50 ms": _milliseconds(level.alone, 50),
        "p99 ms": _milliseconds(level.alone, 99),
        "rides/s": round(len(level.alone) / sum(level.alone)),
        f"batches of {BATCH}: p50 ms": _milliseconds(level.batched, 50),
        "batch p99 ms": _milliseconds(level.batched, 99),
        "batched rides/s": round(BATCH * len(level.batched) / sum(level.batched)),
        "may lose": MAY_LOSE[name],
    }


def _milliseconds(seconds: list[float], percent: int) -> float:
    return round(1e3 * percentile(seconds, percent), 2)
