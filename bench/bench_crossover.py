"""When should I leave Postgres? See `bench.crossover`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from bench.crossover.advice import (
    TITLE,
    Crossing,
    by_freshness,
    by_range,
    by_size,
    crossing_of,
    crossing_text,
)
from bench.crossover.comparisons import (
    COLUMNS,
    LAST,
    NOW,
    ROWS,
    SCANNED,
    CrossoverEffort,
    FreshnessCost,
    RangeTimes,
    ask_all,
    ask_ranges,
    ask_up_to_date,
)
from bench.env import sized_stores
from bench.figure import Axis, Cell, Chart, Figure, Series, VariantTimes
from bench.statistics import Ratio
from olap.question import questions

SIZES = {"quick": (2_000, 20_000), "default": (5_000, 25_000, 120_000)}
# Half of these use an index, half scan much of a table. The full scale runs all questions.
FEW = ("ride_by_id", "latest_rides", "average_price", "rides_by_weekday_and_hour")
SOME = (
    *FEW,
    "rides_between",
    "driver_account",
    "busiest_pickup_zones",
    "price_by_distance",
    "revenue_by_city_and_month",
    "fare_percentiles",
    "top_drivers",
    "rider_sessions",
)
EFFORTS = {
    "quick": CrossoverEffort(FEW, seconds=0.05, rounds=6, steps=4, rides=200),
    "default": CrossoverEffort(SOME, seconds=0.1, rounds=6, steps=6, rides=500),
    "full": CrossoverEffort((), seconds=3.0, rounds=9, steps=13, rides=1_000),
}
LINES_MAX = 6  # in one picture


@pytest.mark.timeout(3600)
def bench_leaving(figure: Figure, sizes: tuple[int, ...]) -> None:
    figure.title = TITLE
    sizes = SIZES.get(figure.scale.name, sizes)
    effort = EFFORTS[figure.scale.name]
    effort = effort if effort.questions else replace(effort, questions=tuple(questions()))
    with sized_stores(sizes) as stores:
        asked = ask_all(figure, stores, effort)
        ranges = ask_ranges(figure, stores[-1], effort)
        freshness = ask_up_to_date(figure, stores[-1], effort)
    figure.rows = sizes[-1]
    figure.checked(
        "all answers were equal at every size and for every range; the up-to-date answer of the lake equals "
        "that of Postgres and differs from that of the last epoch"
    )
    _report_sizes(figure, sizes, asked)
    _report_ranges(figure, sizes[-1], ranges)
    _report_freshness(figure, freshness)
    figure.warn("crossovers are interpolated between the sizes measured")
    figure.warn("Postgres' time for many whole rows is mostly the conversion from Python objects to Arrow")
    if len(effort.questions) < len(questions()):
        figure.warn(f"{len(effort.questions)} of {len(questions())} questions; the full scale runs all")


def _report_sizes(figure: Figure, sizes: Sequence[int], asked: Mapping[str, list[VariantTimes]]) -> None:
    ratios = {name: [_ratio(contest) for contest in contests] for name, contests in asked.items()}
    crossings = {name: _crossing(sizes, contests) for name, contests in asked.items()}
    for of_one in ratios.values():
        for ratio in of_one:
            figure.ratio(ratio)
    last = {name: of_one[-1] for name, of_one in ratios.items()}
    figure.advise(by_size(sizes[-1], last, crossings))
    ordered = sorted(asked, key=lambda name: -last[name].median)
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
        "sum, with an index": (ranges.number, ROWS),
        "whole rows, with an index": (ranges.whole, ROWS),
        "sum, without an index": (ranges.number, SCANNED),
    }
    number, whole, scanned = (
        _crossing(list(contests), list(contests.values()), rows) for contests, rows in variants.values()
    )
    figure.advise(by_range(rides, number, whole, scanned))
    ratios = {
        name: [_ratio(one, rows) for one in contests.values()] for name, (contests, rows) in variants.items()
    }
    for of_one in ratios.values():
        figure.ratio(of_one[-1])
    title = f"Up to which key range is Postgres faster, of {rides:,} rides?"
    places = {name: list(contests) for name, (contests, _) in variants.items()}
    figure.chart(_lines(title, Axis("rows in the range", log=True), places, ratios))


def _report_freshness(figure: Figure, found: FreshnessCost) -> None:
    now_over_last = figure.ratio(found.contest.ratio(NOW, LAST))
    rows_over_now = figure.ratio(found.contest.ratio(ROWS, NOW))
    seconds = {name: found.contest.median_seconds(name) for name in (ROWS, LAST, NOW)}
    figure.advise(by_freshness(found.rides, found.epoch_seconds, now_over_last, rows_over_now, seconds[NOW]))
    figure.table(
        f"A sum over all rides, with {found.rides:,} requests since the last epoch",
        [{"variant": name, "seconds": taken} for name, taken in seconds.items()],
    )
    figure.facts["seconds of an epoch of these requests"] = found.epoch_seconds


def _crossing(places: Sequence[float], contests: Sequence[VariantTimes], rows: str = ROWS) -> Crossing:
    """The crossing of the ratio of Postgres to DuckDB."""
    rounds = [
        (np.array(one.samples[rows].seconds) / np.array(one.samples[COLUMNS].seconds)).tolist()
        for one in contests
    ]
    return crossing_of(places, rounds)


def _ratio(contest: VariantTimes, rows: str = ROWS) -> Ratio:
    return contest.ratio(rows, COLUMNS)


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
    """A line for each; above 1 DuckDB is faster."""
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
