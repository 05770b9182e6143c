"""The comparisons: Postgres and DuckDB on questions and key ranges, and the cost of an up-to-date answer.

Answers are compared before they are timed. A time ends when the whole answer is in memory as an Arrow table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import pyarrow as pa
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.env import SizedStore
from bench.figure import Figure, VariantTimes
from lakehouse.capture.overlay import open_overlay
from lakehouse.capture.publish import publish_changes
from lakehouse.engines import Engine, open_engine, open_engines
from lakehouse.table.catalog import Lake
from olap.answer import difference
from olap.ask import answer_of
from olap.question import questions
from oltp.store import open_database
from oltp.workload import simulate
from ridelake.settings import Settings

ROWS, COLUMNS = "postgres", "duckdb"
SCANNED = "postgres without an index"
LAST, NOW = "duckdb over the last epoch", "duckdb with --fresh"
NO_INDEX = "-c enable_indexscan=off -c enable_indexonlyscan=off -c enable_bitmapscan=off"

NUMBER = (
    "SELECT count(*) AS rides, CAST(sum(fare_cents) AS bigint) AS cents"
    " FROM rides WHERE ride_id BETWEEN $low AND $high"
)
WHOLE = "SELECT * FROM rides WHERE ride_id BETWEEN $low AND $high ORDER BY ride_id"
TOTAL = "SELECT count(*) AS rides, CAST(sum(fare_cents) AS bigint) AS cents FROM rides"

NUMBER_SHARE_MAX, WHOLE_SHARE_MAX = 0.5, 0.05  # of all rides
CLIENTS = 8
EPOCHS = 3

Answers = dict[str, pa.Table]


@dataclass(frozen=True, slots=True)
class CrossoverEffort:
    """`questions`: names. `seconds` and `rounds`: minimum of each comparison. `steps`: the number of ranges,
    from one row to the largest. `rides`: requested before each timed epoch."""

    questions: Sequence[str]
    seconds: float
    rounds: int
    steps: int
    rides: int


@dataclass(frozen=True, slots=True)
class RangeTimes:
    """Comparisons by the number of rows in the range: of a sum, and of whole rows."""

    number: Mapping[float, VariantTimes]
    whole: Mapping[float, VariantTimes]


@dataclass(frozen=True, slots=True)
class FreshnessCost:
    """`contest`: of `ROWS`, `LAST` and `NOW`; each engine is opened for the query, as `--fresh` requires.
    `epoch_seconds`: the median time of an epoch with `rides` requests."""

    contest: VariantTimes
    rides: int
    epoch_seconds: float


def ask_all(
    figure: Figure, stores: Sequence[SizedStore], effort: CrossoverEffort
) -> dict[str, list[VariantTimes]]:
    """For each question, a comparison at each size."""
    found: dict[str, list[VariantTimes]] = {name: [] for name in effort.questions}
    for sized_store in stores:
        with open_engines((ROWS, COLUMNS), sized_store.settings, sized_store.epoch) as engines:
            for name in effort.questions:
                question = questions()[name]
                variants = {engine.name: partial(answer_of, engine, question) for engine in engines}
                label = f"{name}, {sized_store.rides:,} rides"
                found[name].append(_contest(figure, effort, variants, label, ordered=question.ordered))
    return found


def ask_ranges(figure: Figure, sized_store: SizedStore, effort: CrossoverEffort) -> RangeTimes:
    """Compare key ranges that start in the middle of the table."""
    with ExitStack() as opened:
        rows, columns = opened.enter_context(
            open_engines((ROWS, COLUMNS), sized_store.settings, sized_store.epoch)
        )
        scanned = opened.enter_context(
            open_engine(ROWS, _without_index(sized_store.settings), sized_store.epoch)
        )
        _assert_sequential_scan(scanned)
        both = {ROWS: rows, COLUMNS: columns}

        def contests(
            query: str, share_max: float, what: str, engines: Mapping[str, Engine]
        ) -> Iterator[tuple[float, VariantTimes]]:
            for count in _counts(sized_store.rides * share_max, effort.steps):
                values = {"low": sized_store.rides // 2, "high": sized_store.rides // 2 + count - 1}
                variants = {name: partial(engine.sql, query, values) for name, engine in engines.items()}
                yield float(count), _contest(figure, effort, variants, f"{count:,} rows by key, {what}")

        return RangeTimes(
            dict(contests(NUMBER, NUMBER_SHARE_MAX, "sum", both | {SCANNED: scanned})),
            dict(contests(WHOLE, WHOLE_SHARE_MAX, "whole rows", both)),
        )


def ask_up_to_date(figure: Figure, sized_store: SizedStore, effort: CrossoverEffort) -> FreshnessCost:
    """Compare a sum over all rides after bookings since the last epoch; then publish epochs of such bookings.
    All engines are opened for the query, as `--fresh` requires."""
    store = open_database(str(sized_store.settings.dsn))
    lake = Lake.create(sized_store.settings.lake)
    simulate(store, rides=effort.rides, clients=CLIENTS, batch=True, seed=1)

    def opened(name: str) -> pa.Table:
        with open_engine(name, sized_store.settings, sized_store.epoch) as engine:
            return engine.sql(TOTAL)

    def now() -> pa.Table:
        with (
            open_overlay(sized_store.settings, sized_store.epoch) as fresh,
            open_engine(COLUMNS, sized_store.settings, fresh) as engine,
        ):
            return engine.sql(TOTAL)

    variants: dict[str, Callable[[], pa.Table]] = {
        ROWS: partial(opened, ROWS),
        LAST: partial(opened, COLUMNS),
        NOW: now,
    }

    def compare(answers: Answers) -> None:
        _assert_equal("up-to-date sum", {name: answers[name] for name in (ROWS, NOW)}, ordered=True)
        assert not answers[LAST].equals(answers[NOW]), "no ride has changed since the last epoch"

    contest = figure.interleaved(
        variants, compare, label="up-to-date sum", seconds=effort.seconds, rounds_min=effort.rounds
    )
    seconds = []
    for number in range(EPOCHS):
        if number:
            simulate(store, rides=effort.rides, clients=CLIENTS, batch=True, seed=1 + number)
        seconds.append(publish_changes(store, lake).epoch.seconds)
    return FreshnessCost(contest, effort.rides, median(seconds))


def _without_index(settings: Settings) -> Settings:
    """The same store with index scans disabled in the planner."""
    options = conninfo_to_dict(str(settings.dsn)).get("options") or ""
    return replace(settings, dsn=make_conninfo(str(settings.dsn), options=f"{options} {NO_INDEX}"))


def _assert_sequential_scan(scanned: Engine) -> None:
    plan = str(scanned.plan(NUMBER, {"low": 1, "high": 1}))  # type: ignore[attr-defined]
    assert "Seq Scan" in plan, f"the plan does not scan the whole table: {plan}"


def _counts(most: float, steps: int) -> list[int]:
    return sorted({int(count) for count in np.geomspace(1, most, steps)})


def _contest(
    figure: Figure,
    effort: CrossoverEffort,
    variants: Mapping[str, Callable[[], pa.Table]],
    label: str,
    *,
    ordered: bool = True,
) -> VariantTimes:
    def compare(answers: Answers) -> None:
        _assert_equal(label, answers, ordered=ordered)

    return figure.interleaved(
        variants, compare, label=label, seconds=effort.seconds, rounds_min=effort.rounds
    )


def _assert_equal(label: str, answers: Answers, *, ordered: bool) -> None:
    (first, expected), *others = answers.items()
    for name, answer in others:
        differs = difference(expected, answer, ordered=ordered, names=(first, name))
        assert differs is None, f"{label}: {differs}"
