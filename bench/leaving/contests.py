"""What is timed: rows against columns, question by question, range by range, and what freshness takes.

Whoever is timed has given the same answer before; times are of whole answers in memory as Arrow tables.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import pyarrow as pa
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.figure import Contest, Figure
from bench.sized import Sized
from lakehouse.catalog import Lake
from lakehouse.engines import Engine, open_engine, open_engines
from lakehouse.fresh import fresh_epoch
from lakehouse.take import take_changes
from olap.answer import difference
from olap.ask import answer_of
from olap.question import questions
from oltp.simulate import simulate
from oltp.store import open_database
from ridelake.settings import Settings

ROWS, COLUMNS = "postgres", "duckdb"
SCANNED = "postgres without an index"
LAST, NOW = "duckdb over the last epoch", "duckdb as of now"
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
class Effort:
    """`questions`: by name. `seconds` and `rounds` at least, of a contest. `steps`: ranges, from one row to
    the largest. `rides`: requested before each epoch that is timed."""

    questions: Sequence[str]
    seconds: float
    rounds: int
    steps: int
    rides: int


@dataclass(frozen=True, slots=True)
class Ranges:
    """Contests by the number of rows wanted: one number of them, and whole rows."""

    number: Mapping[float, Contest]
    whole: Mapping[float, Contest]


@dataclass(frozen=True, slots=True)
class Freshness:
    """`contest`: of `ROWS`, `LAST` and `NOW`, each opened for the question: as of now it has to be.
    `epoch_seconds`: of an epoch of so many requests (`rides`), the median."""

    contest: Contest
    rides: int
    epoch_seconds: float


def ask_all(figure: Figure, towns: Sequence[Sized], effort: Effort) -> dict[str, list[Contest]]:
    """Of each question, a contest at each size."""
    found: dict[str, list[Contest]] = {name: [] for name in effort.questions}
    for town in towns:
        with open_engines((ROWS, COLUMNS), town.settings, town.epoch) as engines:
            for name in effort.questions:
                question = questions()[name]
                variants = {engine.name: partial(answer_of, engine, question) for engine in engines}
                label = f"{name}, {town.rides:,} rides"
                found[name].append(_contest(figure, effort, variants, label, ordered=question.ordered))
    return found


def ask_ranges(figure: Figure, town: Sized, effort: Effort) -> Ranges:
    """Counted from the middle of the table: ranges lie in no file's corner."""
    with ExitStack() as opened:
        rows, columns = opened.enter_context(open_engines((ROWS, COLUMNS), town.settings, town.epoch))
        scanned = opened.enter_context(open_engine(ROWS, _without_index(town.settings), town.epoch))
        _refuse_index(scanned)
        both = {ROWS: rows, COLUMNS: columns}

        def contests(
            query: str, share_max: float, what: str, engines: Mapping[str, Engine]
        ) -> Iterator[tuple[float, Contest]]:
            for count in _counts(town.rides * share_max, effort.steps):
                values = {"low": town.rides // 2, "high": town.rides // 2 + count - 1}
                variants = {name: partial(engine.sql, query, values) for name, engine in engines.items()}
                yield float(count), _contest(figure, effort, variants, f"{count:,} rows by key, {what}")

        return Ranges(
            dict(contests(NUMBER, NUMBER_SHARE_MAX, "one number", both | {SCANNED: scanned})),
            dict(contests(WHOLE, WHOLE_SHARE_MAX, "whole rows", both)),
        )


def ask_as_of_now(figure: Figure, town: Sized, effort: Effort) -> Freshness:
    """A sum over all rides, when some have been booked since the last epoch; then these as epochs. What is
    as of now is opened for the question, so all are."""
    store = open_database(str(town.settings.dsn))
    lake = Lake.create(town.settings.lake)
    simulate(store, rides=effort.rides, clients=CLIENTS, batch=True, seed=1)

    def opened(name: str) -> pa.Table:
        with open_engine(name, town.settings, town.epoch) as engine:
            return engine.sql(TOTAL)

    def now() -> pa.Table:
        with (
            fresh_epoch(town.settings, town.epoch) as fresh,
            open_engine(COLUMNS, town.settings, fresh) as engine,
        ):
            return engine.sql(TOTAL)

    variants: dict[str, Callable[[], pa.Table]] = {
        ROWS: partial(opened, ROWS),
        LAST: partial(opened, COLUMNS),
        NOW: now,
    }

    def compare(answers: Answers) -> None:
        _refuse_differing("as of now", {name: answers[name] for name in (ROWS, NOW)}, ordered=True)
        assert not answers[LAST].equals(answers[NOW]), "nothing has changed since the last epoch"

    contest = figure.interleaved(
        variants, compare, label="as of now", seconds=effort.seconds, rounds_min=effort.rounds
    )
    seconds = []
    for number in range(EPOCHS):
        if number:
            simulate(store, rides=effort.rides, clients=CLIENTS, batch=True, seed=1 + number)
        seconds.append(take_changes(store, lake).epoch.seconds)
    return Freshness(contest, effort.rides, median(seconds))


def _without_index(settings: Settings) -> Settings:
    """The same store, whose planner is left nothing but to read all of a table."""
    options = conninfo_to_dict(str(settings.dsn)).get("options") or ""
    return replace(settings, dsn=make_conninfo(str(settings.dsn), options=f"{options} {NO_INDEX}"))


def _refuse_index(scanned: Engine) -> None:
    plan = str(scanned.plan(NUMBER, {"low": 1, "high": 1}))  # type: ignore[attr-defined]
    assert "Seq Scan" in plan, f"the planner has found another way than to read all of the table: {plan}"


def _counts(most: float, steps: int) -> list[int]:
    return sorted({int(count) for count in np.geomspace(1, most, steps)})


def _contest(
    figure: Figure,
    effort: Effort,
    variants: Mapping[str, Callable[[], pa.Table]],
    label: str,
    *,
    ordered: bool = True,
) -> Contest:
    def compare(answers: Answers) -> None:
        _refuse_differing(label, answers, ordered=ordered)

    return figure.interleaved(
        variants, compare, label=label, seconds=effort.seconds, rounds_min=effort.rounds
    )


def _refuse_differing(label: str, answers: Answers, *, ordered: bool) -> None:
    (first, expected), *others = answers.items()
    for name, answer in others:
        differs = difference(expected, answer, ordered=ordered, names=(first, name))
        assert differs is None, f"{label}: {differs}"
