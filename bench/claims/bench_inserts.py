"""The claim on single inserts: commits of 1, 10, 100 and 1,000 rides in Postgres, DuckDB and Iceberg.

Durability differs: Postgres and DuckDB flush their log at each commit. pyiceberg flushes the catalog only,
and leaves its files to the operating system.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Protocol

import duckdb
import numpy as np
import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow
from pyiceberg.catalog.sql import SqlCatalog

from bench.claims.rides import RIDE_TABLE, RideBatch, generated_rides
from bench.env import BenchEnv, scratch_schema
from bench.figure import Axis, Cell, Chart, Figure, Series, Verdict, verdict_of
from bench.statistics import Ratio, percentile, quartiles, ratio_of, rotated
from bench.textbook import ClaimId
from ridelake.queries import load_queries

QUERIES = load_queries("bench.claims")

INSERT_RIDE = "INSERT INTO RideTable VALUES (%s, %s, %s, %s, %s, %s)"


class Inserter(Protocol):
    def insert(self, rides: RideBatch) -> None:
        """Insert and commit the rides."""
        ...

    def rides(self) -> pa.Table:
        """All rides, ordered by id."""
        ...


class PostgresInserter:
    """One row by a plain INSERT, several by one INSERT of arrays; one connection in autocommit."""

    def __init__(self, connection: Connection[TupleRow]) -> None:
        self._connection = connection
        self._insert_rides = QUERIES["insert_rides"]
        connection.execute(QUERIES["ride_table"])

    def insert(self, rides: RideBatch) -> None:
        if len(rides) == 1:
            self._connection.execute(INSERT_RIDE, rides.row)
        else:
            self._connection.execute(self._insert_rides, rides.columns)

    def rides(self) -> pa.Table:
        rows = self._connection.execute("SELECT * FROM RideTable ORDER BY RideID").fetchall()
        columns = zip(*rows, strict=True)
        return pa.table([pa.array(v, f.type) for v, f in zip(columns, RIDE_TABLE, strict=True)], RIDE_TABLE)


class DuckDBInserter:
    """One row by a plain INSERT, several from an Arrow table; into a file, in autocommit."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        connection.execute(
            "CREATE TABLE RideTable (RideID BIGINT, Username VARCHAR, DriverID BIGINT, City VARCHAR,"
            " Month VARCHAR, Price DECIMAL(12, 2))"
        )

    def insert(self, rides: RideBatch) -> None:
        if len(rides) == 1:
            self._connection.execute("INSERT INTO RideTable VALUES (?, ?, ?, ?, ?, ?)", rides.row)
        else:
            self._connection.register("batch", rides.table)
            self._connection.execute("INSERT INTO RideTable SELECT * FROM batch")

    def rides(self) -> pa.Table:
        found = self._connection.sql("SELECT * FROM RideTable ORDER BY RideID").to_arrow_table()
        return found.cast(RIDE_TABLE)


class LakeInserter:
    """Each batch is a Parquet file and a commit of an Iceberg table, whose catalog is an SQLite file."""

    def __init__(self, folder: Path) -> None:
        catalog = SqlCatalog(
            "claims", uri=f"sqlite:///{folder / 'catalog.sqlite'}", warehouse=folder.as_uri()
        )
        catalog.create_namespace("claims")
        self._catalog = catalog
        self._table = catalog.create_table("claims.RideTable", RIDE_TABLE)

    def insert(self, rides: RideBatch) -> None:
        self._table.append(rides.table)

    def rides(self) -> pa.Table:
        table = self._catalog.load_table("claims.RideTable")
        return table.scan().to_arrow().sort_by("RideID").cast(RIDE_TABLE)

    def files(self) -> int:
        return len(self._table.inspect.files())

    def close(self) -> None:
        self._catalog.engine.dispose()


POSTGRES, DUCKDB, LAKE = "Postgres", "DuckDB", "an Iceberg table"
# Rides per commit → commits per round. The lake gets one commit per round, because it is the slowest.
COMMITS = {1: 10, 10: 10, 100: 5, 1_000: 2}
P99_COMMITS_MIN = 100  # with fewer commits the p99 is omitted

Milliseconds = dict[tuple[str, int], list[list[float]]]  # (store, rides in a commit) → round → commit


def bench_single_inserts(figure: Figure, env: BenchEnv, tmp_path: Path) -> None:
    figure.title = "How long does it take to commit one ride?"
    with (
        scratch_schema(env.store) as connection,
        duckdb.connect(str(tmp_path / "rides.duckdb")) as database,
        closing(LakeInserter(tmp_path)) as lake,
    ):
        inserts = Inserts(
            {POSTGRES: PostgresInserter(connection), DUCKDB: DuckDBInserter(database), LAKE: lake}
        )
        inserts.run_rounds(1)  # cold: no plans, no files
        inserts.ms.clear()
        figure.once(lambda: inserts.run_rounds(2 * figure.scale.rounds_min))
        figure.rows = inserts.check()
        figure.facts["files of the Iceberg table"] = lake.files()
    figure.facts["ms of an fsync alone"] = _fsync_ms(tmp_path / "fsync")
    figure.checked("every committed ride is in each store afterwards, with equal values")
    figure.warn(
        "pyiceberg does not flush its files to disk; a durable commit to Iceberg takes longer than shown"
    )
    figure.table("Milliseconds per commit, and rides per second", list(_rows(inserts.ms)))
    figure.chart(_lines(inserts.ms))
    over_duckdb, over_lake = (
        figure.ratio(_ratio(inserts.ms, other, POSTGRES, 1)) for other in (DUCKDB, LAKE)
    )
    figure.ratio(_ratio(inserts.ms, POSTGRES, DUCKDB, max(COMMITS)))
    figure.set_verdict(ClaimId.SINGLE_INSERT, judge((over_duckdb, over_lake)))


class Inserts:
    """Inserts the same rides into each store, interleaved. `ms`: the time of each commit."""

    def __init__(self, stores: dict[str, Inserter]) -> None:
        self._stores = stores
        self._inserted = dict.fromkeys(stores, 0)
        self._round_number = 0
        self.ms: Milliseconds = defaultdict(list)

    def run_rounds(self, rounds: int) -> None:
        for rides, commits in [*COMMITS.items()] * rounds:
            self._round_number += 1
            for name in rotated(list(self._stores), self._round_number):
                self.ms[name, rides].append(
                    [self._commit(name, rides) for _ in range(1 if name == LAKE else commits)]
                )

    def _commit(self, name: str, rides: int) -> float:
        batch = RideBatch.of(generated_rides(self._inserted[name], rides))
        self._inserted[name] += rides
        begin = perf_counter()
        self._stores[name].insert(batch)
        return (perf_counter() - begin) * 1000

    def check(self) -> int:
        """The number of rides in all stores. Raises AssertionError if a store has other rides than were
        committed."""
        for name, store in self._stores.items():
            assert store.rides().equals(generated_rides(0, self._inserted[name])), f"{name} has other rides"
        return sum(self._inserted.values())


def judge(others: tuple[Ratio, ...]) -> Verdict:
    """`others`: the times of the other stores divided by that of Postgres."""
    return verdict_of(*(ratio.low > 1 for ratio in others))


def _ratio(ms: Milliseconds, of: str, over: str, rides: int) -> Ratio:
    """The ratio of the medians, round by round."""
    medians = [[float(np.median(taken)) for taken in ms[name, rides]] for name in (of, over)]
    return ratio_of(of, medians[0], over, medians[1], f"commits of {rides:,}")


def _rows(ms: Milliseconds) -> Iterator[dict[str, Cell]]:
    for (name, rides), taken in sorted(ms.items()):
        every = np.concatenate(taken)
        yield {
            "store": name,
            "rides per commit": rides,
            "p50, ms": percentile(every, 50),
            "p99, ms": percentile(every, 99) if len(every) >= P99_COMMITS_MIN else None,
            "slowest, ms": float(every.max()),
            "commits": len(every),
            "rides/s": rides / every.mean() * 1000,
        }


def _lines(ms: Milliseconds) -> Chart:
    lines = []
    for name in (POSTGRES, DUCKDB, LAKE):
        speeds = [rides * 1000 / np.concatenate(ms[name, rides]) for rides in COMMITS]
        lines.append(Series(name, [*COMMITS], *quartiles(speeds)))
    axes = Axis("rides in a commit", log=True), Axis("rides/s (median, quartiles)", log=True)
    return Chart("lines", "From single inserts to bulk", *axes, lines)


def _fsync_ms(path: Path) -> float:
    """The time to append and flush a block. A durable commit takes at least this time."""
    taken = []
    with path.open("ab", buffering=0) as file:
        for _ in range(20):
            begin = perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            taken.append((perf_counter() - begin) * 1000)
    return float(np.median(taken))
