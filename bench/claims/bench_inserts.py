"""The claim about single inserts: what a commit of 1, 10, 100 and 1,000 rides takes, in three places."""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter

import duckdb
import numpy as np

from bench.claims.inserters import DuckDBInserter, Inserter, LakeInserter, PostgresInserter
from bench.claims.rides import Batch, made_up
from bench.claims.words import Saying
from bench.claims.workshop import workshop
from bench.conftest import Ground
from bench.figure import Axis, Cell, Chart, Figure, Series, Verdict
from bench.sampling import Ratio, ratio_of

POSTGRES, DUCKDB, LAKE = "Postgres", "DuckDB", "an Iceberg table"
# Rides in a commit → commits a round. Of the lake one: it is the slowest, and its rows are as many as wanted.
COMMITS = {1: 10, 10: 10, 100: 5, 1_000: 2}
SEEN_FOR_P99 = 100  # commits; of fewer, the hundredth part is nobody

Milliseconds = dict[tuple[str, int], list[list[float]]]  # (place, rides in a commit) → round → commit


def bench_single_inserts(figure: Figure, ground: Ground, tmp_path: Path) -> None:
    figure.title = "What does it take to commit one ride?"
    with (
        workshop(ground.store) as connection,
        duckdb.connect(str(tmp_path / "rides.duckdb")) as database,
        closing(LakeInserter(tmp_path)) as lake,
    ):
        contest = Inserts(
            {POSTGRES: PostgresInserter(connection), DUCKDB: DuckDBInserter(database), LAKE: lake}
        )
        contest.play(1)  # cold: plans unmade, files not there
        contest.ms.clear()
        figure.once(lambda: contest.play(2 * figure.scale.rounds_min))
        figure.rows = contest.check()
        figure.facts["files of the Iceberg table"] = lake.files()
    fsync_ms = figure.facts["ms of a bare fsync"] = _fsync_ms(tmp_path / "fsync")
    figure.checked("every ride that was committed is there afterwards, in each place, with equal values")
    figure.warn("pyiceberg does not force its files to the disk: a lake that does takes longer than shown")
    figure.table("Milliseconds a commit, and rides a second", list(_rows(contest.ms)))
    figure.chart(_lines(contest.ms))
    over_duckdb, over_lake = (
        figure.ratio(_ratio(contest.ms, other, POSTGRES, 1)) for other in (DUCKDB, LAKE)
    )
    bulk = figure.ratio(_ratio(contest.ms, POSTGRES, DUCKDB, max(COMMITS)))
    single = float(np.median(np.concatenate(contest.ms[POSTGRES, 1])))
    told = f"{over_duckdb.words()}; {over_lake.words()}. In commits of {max(COMMITS):,} {bulk.words()}."
    figure.state(
        Saying.SINGLE_INSERT,
        judge((over_duckdb, over_lake)),
        f"Postgres commits one ride in {single:.2f} ms (a bare fsync takes {fsync_ms:.2f} here); {told}",
    )


class Inserts:
    """The same rides into each place, in turns. `ms`: what each commit took."""

    def __init__(self, places: dict[str, Inserter]) -> None:
        self._places = places
        self._taken = dict.fromkeys(places, 0)
        self._turns = 0
        self.ms: Milliseconds = defaultdict(list)

    def play(self, rounds: int) -> None:
        names = list(self._places)
        for rides, commits in [*COMMITS.items()] * rounds:
            self._turns += 1
            first = self._turns % len(names)
            for name in (*names[first:], *names[:first]):
                self.ms[name, rides].append(
                    [self._commit(name, rides) for _ in range(1 if name == LAKE else commits)]
                )

    def _commit(self, name: str, rides: int) -> float:
        batch = Batch.of(made_up(self._taken[name], rides))
        self._taken[name] += rides
        begin = perf_counter()
        self._places[name].insert(batch)
        return (perf_counter() - begin) * 1000

    def check(self) -> int:
        """How many rides there are in all. Raises AssertionError where they are not those committed."""
        for name, place in self._places.items():
            assert place.rides().equals(made_up(0, self._taken[name])), f"{name} has other rides"
        return sum(self._taken.values())


def judge(others: tuple[Ratio, ...]) -> Verdict:
    """`others`: of the places that are not made for it, over the one that is."""
    slower = [ratio.distinguishable and ratio.median > 1 for ratio in others]
    return "holds" if all(slower) else "holds in part" if any(slower) else "does not hold"


def _ratio(ms: Milliseconds, of: str, over: str, rides: int) -> Ratio:
    """Of the medians, round by round."""
    medians = [[float(np.median(taken)) for taken in ms[name, rides]] for name in (of, over)]
    return ratio_of(of, medians[0], over, medians[1])


def _rows(ms: Milliseconds) -> Iterator[dict[str, Cell]]:
    for (name, rides), taken in sorted(ms.items()):
        every = np.concatenate(taken)
        p50, p99 = np.quantile(every, [0.5, 0.99]).tolist()
        yield {
            "place": name,
            "rides a commit": rides,
            "p50, ms": p50,
            "p99, ms": p99 if len(every) >= SEEN_FOR_P99 else None,
            "slowest, ms": float(every.max()),
            "commits seen": len(every),
            "rides/s": rides / every.mean() * 1000,
        }


def _lines(ms: Milliseconds) -> Chart:
    lines = []
    for name in (POSTGRES, DUCKDB, LAKE):
        speeds = [rides * 1000 / np.concatenate(ms[name, rides]) for rides in COMMITS]
        low, middle, high = np.array([np.quantile(speed, [0.25, 0.5, 0.75]) for speed in speeds]).T.tolist()
        lines.append(Series(name, [*COMMITS], middle, low, high))
    axes = Axis("rides in a commit", log=True), Axis("rides/s (median, quartiles)", log=True)
    return Chart("lines", "From single inserts to bulk", *axes, lines)


def _fsync_ms(path: Path) -> float:
    """What the disk alone takes for a block that is appended: the floor under every durable commit."""
    taken = []
    with path.open("ab", buffering=0) as file:
        for _ in range(20):
            begin = perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            taken.append((perf_counter() - begin) * 1000)
    return float(np.median(taken))
