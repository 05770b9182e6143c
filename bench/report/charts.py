"""The charts of a record: crossovers, ratios, times, and what the benchmarks drew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from bench.advice import Crossing, QuestionSizes
from bench.pages.plots import (
    AxisScale,
    PlanePlot,
    PlotMark,
    PlotRow,
    RowPlot,
    numbers,
    plane_plot,
    row_plot,
)
from bench.pages.questions import DotPlot, QuestionTimes, dot_plot
from bench.statistics import Ratio, percentile

Json = dict[str, Any]

SAMPLES_MAX = 24  # variants and ratios of a figure on the page; the record has all
FAR = 30  # times that differ by more are drawn on a logarithmic scale


@dataclass(frozen=True, slots=True)
class CrossoverRow:
    """From 0 to `at` percent of the width Postgres is faster, from there on DuckDB."""

    name: str
    at: float
    low: float
    high: float
    text: str


@dataclass(frozen=True, slots=True)
class CrossoverPlot:
    title: str
    scale: AxisScale
    rows: list[CrossoverRow]

    @property
    def summary(self) -> str:
        return f"{self.title} {'; '.join(f'{row.name}: {row.text}' for row in self.rows)}."


def crossover_plot(found: Sequence[QuestionSizes]) -> CrossoverPlot | None:
    """Which engine is faster at which number of rows. None if only one number of rows was measured."""
    crossings = sorted(
        ((one, one.crossing) for one in found), key=lambda pair: (-pair[1].at, pair[0].ratio.median)
    )
    unit, first, last = found[0].unit, crossings[0][1].first, crossings[0][1].last
    if first == last:
        return None
    scale = AxisScale(unit, first, last, log=True)
    rows = [
        CrossoverRow(one.name, _edge(scale, of.at), _edge(scale, of.low), _edge(scale, of.high), _text(of))
        for one, of in crossings
    ]
    return CrossoverPlot(f"Which is faster at how many {unit}?", scale, rows)


def _edge(scale: AxisScale, at: float) -> float:
    return scale.place(at) if isfinite(at) else 100.0


def _text(crossing: Crossing) -> str:
    if crossing.always or crossing.never:
        return f"{'DuckDB' if crossing.always else 'Postgres'} at all sizes"
    return f"DuckDB from {crossing.at:,.0f}" if crossing.at and isfinite(crossing.at) else "unclear"


def questions_plot(found: Sequence[QuestionSizes]) -> DotPlot:
    """The times of all questions at the largest number of rows."""
    times = [QuestionTimes(one.name, one.seconds[one.rows]) for one in found]
    return dot_plot(f"All questions at {found[0].rows:,} {found[0].unit}", times)


def ratios_plot(title: str, ratios: Sequence[tuple[str, Ratio]]) -> RowPlot | None:
    """How many times faster the winner is, with the interval, on a common logarithmic scale. `ratios`: each
    with its sentence."""
    if not ratios:
        return None
    winners = [(sentence, one.at_least_one()) for sentence, one in ratios[:SAMPLES_MAX]]
    ends = [value for _, one in winners for value in (one.low, one.high)]
    scale = AxisScale.over("times faster", [1.0, *ends], log=True)
    rows = [
        PlotRow(sentence, [PlotMark(1 if one.distinguishable else 8, "", *map(scale.place, _three(one)))])
        for sentence, one in winners
    ]
    return RowPlot(title, scale, rows, one_at=scale.place(1), wide_names=True)


def _three(one: Ratio) -> tuple[float, float, float]:
    return one.median, one.low, one.high


def times_plot(samples: Mapping[str, Json]) -> RowPlot | None:
    """Medians and quartiles, for a figure without charts."""
    timed = {name: one["seconds"] for name, one in samples.items() if one["seconds"]}
    if len(timed) < 2:
        return None
    low, middle, high = (
        [percentile(seconds, percent) for seconds in timed.values()] for percent in (25, 50, 75)
    )
    series = {"name": "median", "x": list(timed), "y": middle, "low": low, "high": high}
    return row_plot(
        "Median and quartiles of the times", "seconds", [series], log=max(middle) > FAR * min(middle)
    )


def drawn(chart: Json) -> RowPlot | PlanePlot | None:
    """A chart of a record; None if it has no values."""
    if not any(numbers(one["y"]) for one in chart["series"]):
        return None
    if chart["kind"] == "bars":
        return row_plot(chart["title"], chart["y"]["title"], chart["series"], log=chart["y"]["log"])
    return plane_plot(chart)
