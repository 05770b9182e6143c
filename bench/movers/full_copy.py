"""Full copies by each mover in turn, beside bookings at a fixed rate.

    without load   each mover copies once; the copy must have all rows, and none may be torn
    a round        alone  A  alone  B  alone  …      each round begins with another mover

A mover copies repeatedly during its window. The p99 of the bookings is divided by the mean p99 of the windows
without a mover before and after it. The files are read after the window.
"""

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import mean, median
from time import perf_counter, sleep

from bench.env import SPAWN
from bench.movers.copied import QUERIES, bytes_written, count_rows, open_copy, torn_rows
from bench.movers.mover import Mover, ToolRun, move
from bench.movers.watch import ServerCost, watching
from bench.statistics import rotated
from oltp.store import Store
from oltp.workload.metrics import SimulationResult
from oltp.workload.simulation import simulate

# Parents before children. Another order tears other rows.
TABLES = tuple(
    f"ridelake.{name}"
    for name in (
        *("cities", "zones", "accounts", "riders", "drivers"),
        *("rides", "payments", "requests", "ledger"),
    )
)
RIDES_AND_PAYMENTS = "f4_one_payment_fits_each_ride"
CLIENTS = 8
LEAD_SECONDS = 0.5  # of the bookings before the first copy


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """`rate`: bookings per second. `window_seconds`: the shortest and the longest window. `rounds` ≥ 1."""

    rate: float
    rounds: int
    window_seconds: tuple[float, float]


@dataclass(slots=True)
class MoverCopies:
    """What was measured of a mover. A list has one value for each round, `torn` and `torn_rides` one for each
    copy: the rows that violate a condition, and the rides whose payment does not fit. `error`: why the mover
    was not measured."""

    mover: Mover
    alone_seconds: float = 0.0
    rows_per_second: list[float] = field(default_factory=list)
    p99_times: list[float] = field(default_factory=list)
    torn: list[int] = field(default_factory=list)
    torn_rides: list[int] = field(default_factory=list)
    bytes_per_row: float = 0.0
    memory_bytes: int = 0
    cost: ServerCost = field(default_factory=ServerCost)
    late_copies: int = 0  # that ended after the bookings
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CopyRounds:
    """`alone_ms_p99`: the booking p99 of each window without a mover. `behind_seconds`: the greatest delay of
    the bookings behind their schedule."""

    movers: tuple[MoverCopies, ...]
    alone_ms_p99: list[float]
    behind_seconds: float
    rows: int  # at the begin


def measure_copies(store: Store, pythons: Mapping[Mover, str], plan: CopyPlan, folder: Path) -> CopyRounds:
    """Measure each mover; `pythons` has the Python of its environment. `folder` must be empty.

    Raises ProofFailed if the bookings or their audit fail."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as process:
        bookings = Bookings(process, store, plan.rate)
        bookings.alone(1.0)  # starts the process, and leaves no table empty
        rows = stored_rows(store)
        found = [_without_load(store, mover, python, folder) for mover, python in pythons.items()]
        for number in range(plan.rounds):
            before = bookings.alone(plan.window_seconds[0])
            for one in rotated([one for one in found if one.error is None], number):
                p99 = _beside_bookings(store, bookings, one, pythons[one.mover], plan, folder)
                after = bookings.alone(plan.window_seconds[0])
                one.p99_times.append(p99 / mean([before, after]))
                before = after
    return CopyRounds(tuple(found), bookings.alone_ms_p99[1:], bookings.behind_seconds, rows)


class Bookings:
    """Windows of bookings in a process of their own. Each is audited at its end."""

    def __init__(self, process: ProcessPoolExecutor, store: Store, rate: float) -> None:
        self._process, self._store, self._rate = process, store, rate
        self._seeds: Iterator[int] = count(1)
        self.alone_ms_p99: list[float] = []
        self.behind_seconds = 0.0

    def begin(self, seconds: float) -> "Future[SimulationResult]":
        return self._process.submit(
            simulate,
            self._store,
            seconds=seconds,
            clients=CLIENTS,
            rate=self._rate,
            seed=next(self._seeds),
        )

    def end(self, window: "Future[SimulationResult]") -> float:
        """Wait for the end. Returns the p99 of the bookings in milliseconds."""
        done = window.result()
        assert done.audit.passed, done.audit.verdict
        self.behind_seconds = max(self.behind_seconds, done.behind_seconds or 0.0)
        return done.latency_ms_p99

    def alone(self, seconds: float) -> float:
        """The p99 of a window without a mover, in milliseconds."""
        self.alone_ms_p99.append(self.end(self.begin(seconds)))
        return self.alone_ms_p99[-1]


def stored_rows(store: Store) -> int:
    with store.connect() as connection:
        row = connection.execute(QUERIES["stored_rows"]).fetchone()
    assert row is not None
    return int(row[0])


def _without_load(store: Store, mover: Mover, python: str, folder: Path) -> MoverCopies:
    target = folder / "alone"
    run = move(mover, python, store.conninfo, target, TABLES)
    found = MoverCopies(mover, run.seconds, error=run.error)
    if run.error is None:
        rows, torn = _read(mover, target)
        if (rows, sum(torn.values())) != (stored_rows(store), 0):
            found.error = f"without load, its copy has {rows:,} rows, {sum(torn.values()):,} of them torn"
    shutil.rmtree(target, ignore_errors=True)
    return found


def _beside_bookings(
    store: Store, bookings: Bookings, found: MoverCopies, python: str, plan: CopyPlan, folder: Path
) -> float:
    """Copy during a window of bookings, and add the results to `found`. Returns the p99 of the bookings in
    milliseconds."""
    shortest, longest = plan.window_seconds
    seconds = min(longest, max(shortest, 2 * found.alone_seconds + LEAD_SECONDS))
    copies: list[tuple[Path, ToolRun]] = []
    with watching(store, found.cost):
        window = bookings.begin(seconds)
        sleep(LEAD_SECONDS)
        deadline = perf_counter() + seconds - LEAD_SECONDS
        while not copies or perf_counter() + copies[-1][1].seconds < deadline:
            target = folder / f"copy-{len(copies)}"
            copies.append((target, move(found.mover, python, store.conninfo, target, TABLES)))
        found.late_copies += perf_counter() > deadline
    p99 = bookings.end(window)
    speeds = []
    for target, run in copies:
        if run.error is not None:
            found.error = run.error
            continue
        rows, torn = _read(found.mover, target)
        speeds.append(rows / run.seconds)
        found.torn.append(sum(torn.values()))
        found.torn_rides.append(torn[RIDES_AND_PAYMENTS])
        found.bytes_per_row = bytes_written(target, TABLES) / rows
        found.memory_bytes = max(found.memory_bytes, run.memory_bytes)
        shutil.rmtree(target)
    found.rows_per_second.append(median(speeds) if speeds else 0.0)
    return p99


def _read(mover: Mover, target: Path) -> tuple[int, dict[str, int]]:
    """The number of all rows, and of the torn rows by condition."""
    with open_copy(mover, target, TABLES) as connection:
        return count_rows(connection, TABLES), torn_rows(connection)
