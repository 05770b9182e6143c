"""When should I leave Postgres? The same rides as rows and as columns, in several sizes (`bench/advice.py`).

Postgres and DuckDB are compared on questions, on key ranges with and without an index, and on up-to-date
answers. Answers are compared before they are timed. A time ends when the whole answer is in memory as an
Arrow table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import pyarrow as pa
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.advice import (
    TITLE,
    Crossing,
    crossing_of,
    crossing_text,
    freshness_sentence,
    range_sentence,
    size_sentence,
)
from bench.env import SizedStore, sized_stores
from bench.figure import Axis, Cell, Chart, Figure, Series, VariantTimes
from bench.statistics import Ratio
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

POSTGRES, DUCKDB = "postgres", "duckdb"
POSTGRES_WITHOUT_INDEX = "postgres without an index"
DUCKDB_EPOCH, DUCKDB_FRESH = "duckdb over the last epoch", "duckdb with --fresh"
NO_INDEX = "-c enable_indexscan=off -c enable_indexonlyscan=off -c enable_bitmapscan=off"

RANGE_SUM_QUERY = (
    "SELECT count(*) AS rides, CAST(sum(fare_cents) AS bigint) AS cents"
    " FROM rides WHERE ride_id BETWEEN $low AND $high"
)
RANGE_ROWS_QUERY = "SELECT * FROM rides WHERE ride_id BETWEEN $low AND $high ORDER BY ride_id"
TOTAL_QUERY = "SELECT count(*) AS rides, CAST(sum(fare_cents) AS bigint) AS cents FROM rides"

RANGE_SUM_SHARE_MAX, RANGE_ROWS_SHARE_MAX = 0.5, 0.05  # shares of all rides
CLIENTS = 8
EPOCHS = 3

Answers = dict[str, pa.Table]


@dataclass(frozen=True, slots=True)
class CrossoverConfig:
    """`questions`: their names. `seconds` and `rounds`: the minimum of each comparison. `range_count`: the
    number of key ranges, from one row to the largest. `rides`: the number of requests before each timed
    epoch."""

    questions: Sequence[str]
    seconds: float
    rounds: int
    range_count: int
    rides: int


@dataclass(frozen=True, slots=True)
class RangeTimes:
    """Comparisons by the number of rows in the range. `number`: of a sum. `whole`: of whole rows."""

    number: Mapping[float, VariantTimes]
    whole: Mapping[float, VariantTimes]


@dataclass(frozen=True, slots=True)
class FreshnessCost:
    """`times`: of `POSTGRES`, `DUCKDB_EPOCH` and `DUCKDB_FRESH`, each with the opening of the engine, as
    `--fresh` requires. `epoch_seconds`: the median time of an epoch with `rides` requests."""

    times: VariantTimes
    rides: int
    epoch_seconds: float


SIZES = {"quick": (2_000, 20_000), "default": (5_000, 25_000, 120_000)}
# Half of these use an index, half scan much of a table. The full scale runs all questions.
QUICK_QUESTIONS = ("ride_by_id", "latest_rides", "average_price", "rides_by_weekday_and_hour")
DEFAULT_QUESTIONS = (
    *QUICK_QUESTIONS,
    "rides_between",
    "driver_account",
    "busiest_pickup_zones",
    "price_by_distance",
    "revenue_by_city_and_month",
    "fare_percentiles",
    "top_drivers",
    "rider_sessions",
)
CONFIGS = {
    "quick": CrossoverConfig(QUICK_QUESTIONS, seconds=0.05, rounds=6, range_count=4, rides=200),
    "default": CrossoverConfig(DEFAULT_QUESTIONS, seconds=0.1, rounds=6, range_count=6, rides=500),
    "full": CrossoverConfig((), seconds=3.0, rounds=9, range_count=13, rides=1_000),
}
LINES_MAX = 6  # in one chart


@pytest.mark.timeout(3600)
def bench_leaving(figure: Figure, sizes: tuple[int, ...]) -> None:
    figure.title = TITLE
    sizes = SIZES.get(figure.scale.name, sizes)
    config = CONFIGS[figure.scale.name]
    config = config if config.questions else replace(config, questions=tuple(questions()))
    with sized_stores(sizes) as stores:
        question_times = measure_questions(figure, stores, config)
        ranges = measure_ranges(figure, stores[-1], config)
        freshness = measure_freshness(figure, stores[-1], config)
    figure.rows = sizes[-1]
    figure.checked(
        "all answers were equal at every size and for every range; the up-to-date answer of the lake equals "
        "that of Postgres and differs from that of the last epoch"
    )
    _report_sizes(figure, sizes, question_times)
    _report_ranges(figure, sizes[-1], ranges)
    _report_freshness(figure, freshness)
    figure.warn("crossovers are interpolated between the sizes measured")
    figure.warn("Postgres' time for many whole rows is mostly the conversion from Python objects to Arrow")
    if len(config.questions) < len(questions()):
        figure.warn(f"{len(config.questions)} of {len(questions())} questions; the full scale runs all")


def measure_questions(
    figure: Figure, stores: Sequence[SizedStore], config: CrossoverConfig
) -> dict[str, list[VariantTimes]]:
    """For each question, a comparison at each size."""
    found: dict[str, list[VariantTimes]] = {name: [] for name in config.questions}
    for sized_store in stores:
        with open_engines((POSTGRES, DUCKDB), sized_store.settings, sized_store.epoch) as engines:
            for name in config.questions:
                question = questions()[name]
                variants = {engine.name: partial(answer_of, engine, question) for engine in engines}
                label = f"{name}, {sized_store.rides:,} rides"
                found[name].append(_times(figure, config, variants, label, ordered=question.ordered))
    return found


def measure_ranges(figure: Figure, sized_store: SizedStore, config: CrossoverConfig) -> RangeTimes:
    """Compare key ranges that start in the middle of the table."""
    with ExitStack() as opened:
        rows, columns = opened.enter_context(
            open_engines((POSTGRES, DUCKDB), sized_store.settings, sized_store.epoch)
        )
        scanned = opened.enter_context(
            open_engine(POSTGRES, _index_scans_off(sized_store.settings), sized_store.epoch)
        )
        _assert_sequential_scan(scanned)
        both = {POSTGRES: rows, DUCKDB: columns}

        def all_times(
            query: str, share_max: float, what: str, engines: Mapping[str, Engine]
        ) -> Iterator[tuple[float, VariantTimes]]:
            for count in _counts(sized_store.rides * share_max, config.range_count):
                values = {"low": sized_store.rides // 2, "high": sized_store.rides // 2 + count - 1}
                variants = {name: partial(engine.sql, query, values) for name, engine in engines.items()}
                yield float(count), _times(figure, config, variants, f"{count:,} rows by key, {what}")

        return RangeTimes(
            dict(
                all_times(
                    RANGE_SUM_QUERY, RANGE_SUM_SHARE_MAX, "sum", both | {POSTGRES_WITHOUT_INDEX: scanned}
                )
            ),
            dict(all_times(RANGE_ROWS_QUERY, RANGE_ROWS_SHARE_MAX, "whole rows", both)),
        )


def measure_freshness(figure: Figure, sized_store: SizedStore, config: CrossoverConfig) -> FreshnessCost:
    """Compare a sum over all rides after bookings since the last epoch; then publish epochs of such bookings.
    Each time includes the opening of the engine, as `--fresh` requires."""
    store = open_database(str(sized_store.settings.dsn))
    lake = Lake.create(sized_store.settings.lake)
    simulate(store, rides=config.rides, clients=CLIENTS, batch=True, seed=1)

    def opened(name: str) -> pa.Table:
        with open_engine(name, sized_store.settings, sized_store.epoch) as engine:
            return engine.sql(TOTAL_QUERY)

    def now() -> pa.Table:
        with (
            open_overlay(sized_store.settings, sized_store.epoch) as fresh,
            open_engine(DUCKDB, sized_store.settings, fresh) as engine,
        ):
            return engine.sql(TOTAL_QUERY)

    variants: dict[str, Callable[[], pa.Table]] = {
        POSTGRES: partial(opened, POSTGRES),
        DUCKDB_EPOCH: partial(opened, DUCKDB),
        DUCKDB_FRESH: now,
    }

    def compare(answers: Answers) -> None:
        _assert_equal(
            "up-to-date sum", {name: answers[name] for name in (POSTGRES, DUCKDB_FRESH)}, ordered=True
        )
        assert not answers[DUCKDB_EPOCH].equals(answers[DUCKDB_FRESH]), (
            "no ride has changed since the last epoch"
        )

    times = figure.interleaved(
        variants, compare, label="up-to-date sum", seconds=config.seconds, rounds_min=config.rounds
    )
    seconds = []
    for number in range(EPOCHS):
        if number:
            simulate(store, rides=config.rides, clients=CLIENTS, batch=True, seed=1 + number)
        seconds.append(publish_changes(store, lake).epoch.seconds)
    return FreshnessCost(times, config.rides, median(seconds))


def _index_scans_off(settings: Settings) -> Settings:
    """The same store with index scans disabled in the planner."""
    options = conninfo_to_dict(str(settings.dsn)).get("options") or ""
    return replace(settings, dsn=make_conninfo(str(settings.dsn), options=f"{options} {NO_INDEX}"))


def _assert_sequential_scan(scanned: Engine) -> None:
    plan = str(scanned.plan(RANGE_SUM_QUERY, {"low": 1, "high": 1}))  # type: ignore[attr-defined]
    assert "Seq Scan" in plan, f"the plan does not scan the whole table: {plan}"


def _counts(most: float, range_count: int) -> list[int]:
    return sorted({int(count) for count in np.geomspace(1, most, range_count)})


def _times(
    figure: Figure,
    config: CrossoverConfig,
    variants: Mapping[str, Callable[[], pa.Table]],
    label: str,
    *,
    ordered: bool = True,
) -> VariantTimes:
    def compare(answers: Answers) -> None:
        _assert_equal(label, answers, ordered=ordered)

    return figure.interleaved(
        variants, compare, label=label, seconds=config.seconds, rounds_min=config.rounds
    )


def _assert_equal(label: str, answers: Answers, *, ordered: bool) -> None:
    (first, expected), *others = answers.items()
    for name, answer in others:
        differs = difference(expected, answer, ordered=ordered, names=(first, name))
        assert differs is None, f"{label}: {differs}"


def _report_sizes(
    figure: Figure, sizes: Sequence[int], question_times: Mapping[str, list[VariantTimes]]
) -> None:
    ratios = {name: [_ratio(times) for times in all_times] for name, all_times in question_times.items()}
    crossings = {name: crossing_of(sizes, all_times) for name, all_times in question_times.items()}
    for of_one in ratios.values():
        for ratio in of_one:
            figure.ratio(ratio)
    last = {name: of_one[-1] for name, of_one in ratios.items()}
    figure.advise(size_sentence(sizes[-1], last, crossings))
    ordered = sorted(question_times, key=lambda name: -last[name].median)
    figure.table(
        "Time of Postgres divided by the time of DuckDB",
        [_row(name, sizes, ratios[name], crossings[name]) for name in ordered],
    )
    chosen = np.unique(np.linspace(0, len(ordered) - 1, LINES_MAX).round().astype(int))
    lines = {ordered[place]: ratios[ordered[place]] for place in chosen}
    title = "From how many rides on is DuckDB faster?"
    figure.chart(_lines(title, Axis("rides", log=True), sizes, lines))


def _report_ranges(figure: Figure, rides: int, ranges: RangeTimes) -> None:
    variants = {
        "sum, with an index": (ranges.number, POSTGRES),
        "whole rows, with an index": (ranges.whole, POSTGRES),
        "sum, without an index": (ranges.number, POSTGRES_WITHOUT_INDEX),
    }
    number, whole, scanned = (
        crossing_of(list(all_times), list(all_times.values()), rows) for all_times, rows in variants.values()
    )
    figure.advise(range_sentence(rides, number, whole, scanned))
    ratios = {
        name: [_ratio(one, rows) for one in all_times.values()]
        for name, (all_times, rows) in variants.items()
    }
    for of_one in ratios.values():
        figure.ratio(of_one[-1])
    title = f"Up to which key range is Postgres faster, of {rides:,} rides?"
    places = {name: list(all_times) for name, (all_times, _) in variants.items()}
    figure.chart(_lines(title, Axis("rows in the range", log=True), places, ratios))


def _report_freshness(figure: Figure, found: FreshnessCost) -> None:
    now_over_last = figure.ratio(found.times.ratio(DUCKDB_FRESH, DUCKDB_EPOCH))
    rows_over_now = figure.ratio(found.times.ratio(POSTGRES, DUCKDB_FRESH))
    seconds = {name: found.times.median_seconds(name) for name in (POSTGRES, DUCKDB_EPOCH, DUCKDB_FRESH)}
    figure.advise(
        freshness_sentence(
            found.rides, found.epoch_seconds, now_over_last, rows_over_now, seconds[DUCKDB_FRESH]
        )
    )
    figure.table(
        f"A sum over all rides, with {found.rides:,} requests since the last epoch",
        [{"variant": name, "seconds": taken} for name, taken in seconds.items()],
    )
    figure.facts["seconds of an epoch of these requests"] = found.epoch_seconds


def _ratio(times: VariantTimes, rows: str = POSTGRES) -> Ratio:
    return times.ratio(rows, DUCKDB)


def _row(name: str, sizes: Sequence[int], ratios: Sequence[Ratio], crossing: Crossing) -> dict[str, Cell]:
    cells = {
        f"{rides:,} rides": f"{one.median:.2f} ({one.low:.2f}–{one.high:.2f})"
        for rides, one in zip(sizes, ratios, strict=True)
    }
    return {"question": name, **cells, "DuckDB is faster": crossing_text(crossing, "rides")}


def _lines(
    title: str,
    x: Axis,
    places: Sequence[float] | Mapping[str, Sequence[float]],
    ratios: Mapping[str, Sequence[Ratio]],
) -> Chart:
    """A line for each series of ratios; above 1 DuckDB is faster."""
    where = {name: list(places[name] if isinstance(places, Mapping) else places) for name in ratios}
    ends = [place for of_one in where.values() for place in of_one]
    series = [
        Series(
            name,
            list(where[name]),
            [one.median for one in of_one],
            [one.low for one in of_one],
            [one.high for one in of_one],
        )
        for name, of_one in ratios.items()
    ]
    series.append(Series("equal", [min(ends), max(ends)], [1.0, 1.0]))
    return Chart("lines", title, x, Axis("time of Postgres ÷ time of DuckDB", log=True), series)
