"""The times of questions on several engines, as one sorted chart of dots: `DotPlot`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.pages.plots import ENGINE_NAMES, AxisScale, PlotMark, PlotRow, RowPlot, series_numbers
from bench.statistics import Ratio, interval, ratio_of
from olap.question import questions
from ridelake.text import duration, ratio_text

ROWS_ENGINE = "postgres"
ABSOLUTE, RELATIVE = "seconds", "time ÷ fastest engine"


@dataclass(frozen=True, slots=True)
class QuestionTimes:
    """The seconds of each engine in each interleaved, warm round."""

    name: str
    seconds: Mapping[str, Sequence[float]]

    @property
    def purpose(self) -> str:
        """What the question asks; empty if it is not one of `olap/questions`."""
        return questions()[self.name].summary if self.name in questions() else ""

    @property
    def sql(self) -> str:
        """Its SQL with the declared parameters, without other comments; empty if it is unknown."""
        lines = questions()[self.name].sql.splitlines() if self.name in questions() else []
        return "\n".join(line for line in lines if not line.startswith("--") or line.startswith("-- $"))

    @property
    def by_time(self) -> list[str]:
        """The engines, the fastest first."""
        return sorted(self.seconds, key=lambda engine: median(self.seconds[engine]))

    @property
    def fastest(self) -> str:
        return self.by_time[0]

    def over_fastest(self, engine: str) -> Ratio:
        """The time of the engine divided by the time of the fastest."""
        fastest = self.fastest
        times, least = self.seconds[engine], self.seconds[fastest]
        return ratio_of(engine_name(engine), times, engine_name(fastest), least)

    @property
    def rows_over_columns(self) -> Ratio:
        """The time of Postgres divided by that of the fastest other engine."""
        other = next(engine for engine in self.by_time if engine != ROWS_ENGINE)
        rows, columns = self.seconds[ROWS_ENGINE], self.seconds[other]
        return ratio_of(engine_name(ROWS_ENGINE), rows, engine_name(other), columns)

    @property
    def sentence(self) -> str:
        """`average_price: DuckDB 12 ms, Postgres 88 ms; DuckDB is 7.3× faster (6.3–8.2×)`"""
        times = ", ".join(
            f"{engine_name(name)} {duration(median(self.seconds[name]))}" for name in self.by_time
        )
        ratio = self.rows_over_columns
        compared = ratio.sentence()
        if len(self.seconds) == 2:  # the other engine is known
            compared = compared.replace(f" than {ratio.at_least_one().of}", "")
            compared = compared.replace(f" between {ratio.of} and {ratio.over}", "")
        return f"{self.name}: {times}; {compared}"

    @property
    def winner(self) -> str:
        """`DuckDB 7.3×`, or `no difference`."""
        ratio = self.rows_over_columns
        if not ratio.distinguishable:
            return "no difference"
        return f"{ratio.at_least_one().over} {ratio_text(ratio.at_least_one().median)}"


def engine_name(engine: str) -> str:
    return ENGINE_NAMES.get(engine, engine)


@dataclass(frozen=True, slots=True)
class DotPlot:
    """The same rows twice: absolute times, and times relative to the fastest engine."""

    questions: list[QuestionTimes]
    absolute: RowPlot
    relative: RowPlot


def dot_plot(title: str, times: Sequence[QuestionTimes]) -> DotPlot:
    """The questions by the ratio of rows to columns: first the questions at which Postgres is fastest."""
    ordered = sorted(times, key=lambda one: one.rows_over_columns.median)
    engines = list(dict.fromkeys(engine for one in ordered for engine in one.seconds))
    legend = list(zip(series_numbers(engines), map(engine_name, engines), strict=True))
    spans = {one.name: {name: _times(one.seconds[name]) for name in one.seconds} for one in ordered}
    ratios = {one.name: {name: _over(one, name) for name in one.seconds} for one in ordered}
    plots = []
    for unit, values in ((ABSOLUTE, spans), (RELATIVE, ratios)):
        scale = AxisScale.over(
            unit, (v for of in values.values() for three in of.values() for v in three), log=True
        )
        rows = [
            PlotRow(one.name, [_mark(scale, name, values[one.name][name]) for name in engines], one.winner)
            for one in ordered
        ]
        plots.append(RowPlot(title, scale, rows, legend))
    return DotPlot(ordered, *plots)


def _times(seconds: Sequence[float]) -> tuple[float, float, float]:
    return median(seconds), *interval(seconds)


def _over(one: QuestionTimes, engine: str) -> tuple[float, float, float]:
    if engine == one.fastest:
        return 1.0, 1.0, 1.0
    ratio = one.over_fastest(engine)
    return ratio.median, ratio.low, ratio.high


def _mark(scale: AxisScale, engine: str, three: tuple[float, float, float]) -> PlotMark:
    middle, low, high = three
    (series,) = series_numbers([engine])
    return PlotMark(series, engine_name(engine), scale.place(middle), scale.place(low), scale.place(high))
