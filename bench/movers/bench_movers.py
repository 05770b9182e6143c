"""The movers, compared on one live store: `ridelake bench --only movers`.

    bench_movers_copy_a_live_store    speed, torn rows, latency of bookings, memory, size
    bench_movers_follow_a_table       rows that are missing, stale or kept after a DELETE
    bench_movers_keep_values          values by type, as Postgres reads them back

They run only if `--only` names them: they install other tools, and take about 15 minutes on two cores.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import pytest

from bench.env import BenchEnv
from bench.figure import QUICK, Axis, Cell, Chart, Figure, Series
from bench.movers.drift import MoverTypes, measure_types
from bench.movers.full_copy import CopyPlan, CopyRounds, MoverCopies, measure_copies
from bench.movers.incremental import PollPlan, measure_polls
from bench.movers.mover import MOVERS, Mover, ToolMissing, installed_python
from bench.statistics import interval
from ridelake.text import digits

pytestmark = pytest.mark.named("movers")

MIB = 2**20
BEHIND_SECONDS_MAX = 1.0
MESSAGE_LENGTH = 160  # characters of an error in a table

COPIES = CopyPlan(rate=300.0, rounds=3, window_seconds=(4.0, 30.0))
POLLS = PollPlan(seconds=30.0, first_rows=20_000)
SMALL_COPIES = CopyPlan(rate=100.0, rounds=2, window_seconds=(3.0, 30.0))
SMALL_POLLS = PollPlan(seconds=10.0, first_rows=2_000)

Installed = tuple[dict[Mover, str], dict[Mover, str]]


@pytest.fixture(scope="module")
def installed(movers_folder: Path) -> Installed:
    """The Python of each mover's environment, and the reasons why the others are skipped."""
    pythons: dict[Mover, str] = {}
    missing: dict[Mover, str] = {}
    for mover in MOVERS:
        try:
            pythons[mover] = installed_python(mover.tool, movers_folder)
        except ToolMissing as error:
            missing[mover] = str(error)
    return pythons, missing


def bench_movers_copy_a_live_store(
    figure: Figure, env: BenchEnv, installed: Installed, tmp_path: Path
) -> None:
    figure.title = "What do tools that copy Postgres to Parquet read from a live store?"
    pythons, missing = installed
    plan = SMALL_COPIES if figure.scale == QUICK else COPIES
    found = figure.once(lambda: measure_copies(env.store, pythons, plan, tmp_path))
    ridelake = next(one for one in found.movers if one.mover.tool == "ridelake")
    assert ridelake.error is None, ridelake.error
    assert not any(ridelake.torn), ridelake.torn
    figure.checked(
        "without load, each copy had all rows and no torn row; the audit held in Postgres after each window"
    )
    figure.rows = found.rows
    figure.table(
        f"Nine tables, {found.rows:,} rows, copied beside {plan.rate:.0f} bookings/s in {plan.rounds} rounds",
        [_copy_row(one) for one in found.movers if one.error is None] or [{"mover": "none"}],
    )
    reasons = missing | {one.mover: one.error for one in found.movers if one.error is not None}
    _add_reasons(figure, reasons)
    figure.chart(_speed_chart(found))
    for sentence in summary([one for one in found.movers if one.error is None]):
        figure.advise(sentence)
    figure.facts |= {
        "bookings per second": plan.rate,
        "rounds": plan.rounds,
        "booking p99 ms without a mover": median(found.alone_ms_p99),
        "seconds behind the schedule": found.behind_seconds,
    }
    if found.behind_seconds > BEHIND_SECONDS_MAX:
        figure.warn(f"the bookings were {found.behind_seconds:.1f} s behind their schedule")
    if late := [one.mover.name for one in found.movers if one.late_copies]:
        figure.warn(f"copies of {', '.join(late)} ended after the bookings: they have too few torn rows")


def summary(measured: Sequence[MoverCopies]) -> list[str]:
    """A summary of the table, with the best mover of each column."""
    whole = [one for one in measured if not any(one.torn) and not one.late_copies]
    torn = [median(one.torn) for one in measured if any(one.torn)]
    sentences = [f"No row is torn in the copies of {_names(whole)}"]
    if torn:
        sentences[0] += f". The others have at least {min(torn):,.0f} torn rows a copy"
    fastest = max(measured, key=lambda one: median(one.rows_per_second))
    speed = median(fastest.rows_per_second) / 1e3
    gentlest = min(measured, key=lambda one: median(one.p99_times))
    smallest = min(measured, key=lambda one: one.memory_bytes)
    return [
        *sentences,
        f"{fastest.mover.name} is the fastest: {digits(speed)} thousand rows/s",
        f"The bookings are fastest beside {gentlest.mover.name}: their p99 is "
        f"{digits(median(gentlest.p99_times))} × that without a copy",
        f"{smallest.mover.name} needs the least memory: {smallest.memory_bytes / MIB:.0f} MiB",
    ]


def _names(movers: Sequence[MoverCopies]) -> str:
    return "; ".join(one.mover.name for one in movers) or "no mover"


def _copy_row(one: MoverCopies) -> dict[str, Cell]:
    return {
        "mover": one.mover.name,
        "thousand rows/s": _with_interval([speed / 1e3 for speed in one.rows_per_second]),
        "torn rows a copy": _torn(one, one.torn),
        "of them rides": _torn(one, one.torn_rides),
        "booking p99 × alone": _with_interval(one.p99_times),
        "longest statement s": round(one.cost.statement_seconds, 1),
        "oldest snapshot s": round(one.cost.snapshot_seconds, 1),
        "peak MiB": round(one.memory_bytes / MIB),
        "bytes a row": round(one.bytes_per_row, 1),
    }


def _with_interval(rounds: Sequence[float]) -> str:
    """The median of the rounds and its interval; a single round has none."""
    if len(rounds) == 1:
        return digits(rounds[0])
    low, high = interval(rounds)
    return f"{digits(median(rounds))} ({digits(low)}–{digits(high)})"


def _torn(one: MoverCopies, counts: Sequence[int]) -> str:
    """The median of the copies, the smallest and the largest. Without a torn row, a copy that ended after the
    bookings shows nothing."""
    if not any(counts):
        return "–" if one.late_copies else "0"
    return f"{median(counts):,.0f} ({min(counts):,}–{max(counts):,})"


def _speed_chart(found: CopyRounds) -> Chart:
    measured = [one for one in found.movers if one.error is None]
    ends = [interval(one.rows_per_second) for one in measured]
    return Chart(
        kind="bars",
        title="Rows per second of a full copy beside bookings",
        x=Axis("mover"),
        y=Axis("rows/s"),
        series=[
            Series(
                "rows/s",
                [one.mover.name for one in measured],
                [median(one.rows_per_second) for one in measured],
                low=[low for low, _ in ends],
                high=[high for _, high in ends],
            )
        ],
    )


def bench_movers_follow_a_table(figure: Figure, env: BenchEnv, installed: Installed, tmp_path: Path) -> None:
    figure.title = "How many rows do tools lose that copy a table incrementally?"
    pythons, missing = installed
    plan = SMALL_POLLS if figure.scale == QUICK else POLLS
    found = figure.once(lambda: measure_polls(env.store.conninfo, pythons, plan, tmp_path))
    ridelake = next(one for one in found.movers if one.mover.tool == "ridelake")
    assert ridelake.difference is not None, ridelake.error
    assert ridelake.difference.lost == ridelake.difference.undeleted == 0, ridelake.difference
    figure.checked("after the last commit and one more run, the copy of ridelake equals the table")
    figure.rows = found.rows
    rows: list[dict[str, Cell]] = [
        {
            "mover": one.mover.name,
            "missing": one.difference.missing,
            "stale": one.difference.outdated,
            "kept after DELETE": one.difference.undeleted,
            "polls": one.polls,
        }
        for one in found.movers
        if one.difference is not None
    ]
    figure.table(
        f"A table of {found.rows:,} rows, after {plan.seconds:.0f} s of {found.transactions:,} transactions",
        rows,
    )
    failed = {one.mover: one.error for one in found.movers if one.error is not None}
    _add_reasons(figure, {mover: why for mover, why in missing.items() if mover.polls} | failed)
    figure.facts |= {"long transactions": found.long_transactions, "writers": plan.writers}


def bench_movers_keep_values(figure: Figure, env: BenchEnv, installed: Installed, tmp_path: Path) -> None:
    figure.title = "Which values do tools that copy Postgres to Parquet change?"
    pythons, missing = installed
    one_each = {mover: python for mover, python in pythons.items() if not mover.variant}
    found = figure.once(lambda: measure_types(env.store.conninfo, one_each, tmp_path))
    ridelake = next(one for one in found if one.mover.tool == "ridelake")
    assert not ridelake.changed, ridelake.changed
    figure.checked("Postgres reads each value of a file back, and compares it with its own text")
    for group in ("ordinary", "hard"):
        figure.table(f"{group.capitalize()} values: types", [_type_row(one, group) for one in found])
    figure.table(
        "Changed values", [row for one in found for row in _changed_rows(one)] or [{"mover": "none"}]
    )
    figure.table("Refused types", [row for one in found for row in _refused_rows(one)] or [{"mover": "none"}])
    _add_reasons(figure, {mover: why for mover, why in missing.items() if not mover.variant})


def _type_row(one: MoverTypes, group: str) -> dict[str, Cell]:
    def of(names: Sequence[str]) -> str:
        found = [name.removeprefix(f"{group}_") for name in names if name.startswith(group)]
        return ", ".join(found) or "none"

    right = [name for name in one.right if name.startswith(group)]
    return {
        "mover": one.mover.name,
        "right": len(right),
        "changed without an error": of([*one.changed]),
        "no copy": of([*one.refused]),
    }


def _changed_rows(one: MoverTypes) -> list[dict[str, Cell]]:
    """The first changed value of each table."""
    first = {name: next(iter(values.items())) for name, values in one.changed.items()}
    return [
        {
            "mover": one.mover.name,
            "table": name,
            "in Postgres": _short(one.truth[name][id_]),
            "in the file": _short(text),
        }
        for name, (id_, text) in first.items()
    ]


def _refused_rows(one: MoverTypes) -> list[dict[str, Cell]]:
    return [
        {"mover": one.mover.name, "table": name, "message": _short(why)} for name, why in one.refused.items()
    ]


def _add_reasons(figure: Figure, reasons: dict[Mover, str]) -> None:
    for mover, why in reasons.items():
        figure.warn(f"{mover.name} was not measured: {_short(why)}")


def _short(text: str | None) -> str:
    if text is None:
        return "NULL"
    return text if len(text) <= MESSAGE_LENGTH else f"{text[:MESSAGE_LENGTH]}…"
