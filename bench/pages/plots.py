"""Charts as positions; the templates draw them as SVG (`charts.html`).

    RowPlot    a row for each name: bars on a linear scale, dots on a logarithmic one; with intervals
    PlanePlot  points over two axes; joined by a line if a series has at least three

Horizontal positions are percentages: a chart fills a phone as well as a desk, and its text has one size.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, floor, isfinite, log10
from typing import Any

from ridelake.text import digits, duration, size

# Each has the same colour on every page.
ENGINE_NAMES = {"postgres": "Postgres", "duckdb": "DuckDB", "polars": "Polars"}
SERIES_MAX = 8  # colours and shapes in base.css and charts.html
LINE_POINTS_MIN = 3  # a line through two points is not a curve
REFERENCES = ("equal", "bounding box", "proportional line")  # drawn to compare with; not measured
TICKS_MIN, TICKS_MAX = 3, 6
PLANE_PIXELS = 280
RAMP_STEPS = 5
RAMP_LOG_FROM = 10  # the ratio from which the steps of colours are logarithmic
SIGNS = "①②③④⑤⑥⑦⑧⑨⑩"  # one for each mark of a plane


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class AxisScale:
    """Maps values to percentages of the width or the height."""

    title: str
    low: float
    high: float
    log: bool = False

    @classmethod
    def over(
        cls, title: str, values: Iterable[float], *, log: bool = False, zero: bool = True
    ) -> "AxisScale":
        """The scale that contains all values. It is logarithmic if that is requested and a value is positive.
        A linear scale contains 0 if `zero`."""
        known = list(values)
        above = [value for value in known if value > 0]
        if log and above:
            low, high = min(above), max(above)
            low, high = (low, high) if high > low else (low / 2, high * 2)
            space = (high / low) ** 0.04
            return cls(title, low / space, high * space, log=True)
        low, high = min([0.0, *known] if zero else known, default=0.0), max(known, default=1.0)
        high = high if high > low else low + 1
        space = 0.04 * (high - low)
        return cls(title, low if zero and low == 0 else low - space, high + space)

    def place(self, value: float) -> float:
        """Percent from the low end. A value at or below zero is at the low end of a logarithmic scale."""
        if not self.log:
            share = (value - self.low) / (self.high - self.low)
        else:
            share = log10(max(value, self.low) / self.low) / log10(self.high / self.low)
        return round(100 * min(max(share, 0.0), 1.0), 1)

    def text(self, value: float) -> str:
        """The value with its unit, if the title names one. Seconds and bytes are scaled."""
        if "seconds" in self.title and value > 0:
            return duration(value)
        if "bytes" in self.title.lower():
            return size(round(value))
        unit = "ms" if self.title.startswith("ms ") else self.title.split(" (")[0]
        return f"{digits(value)} {unit}" if " " not in unit else digits(value)

    @property
    def ticks(self) -> list[Tick]:
        values = self._log_ticks() if self.log else self._linear_ticks()
        return [Tick(self.place(value), self._tick_text(value)) for value in values]

    def _tick_text(self, value: float) -> str:
        """1, 10, 100, 1k, 10k; with a unit for seconds and bytes."""
        if value and ("seconds" in self.title or "bytes" in self.title.lower()):
            return self.text(value)
        unit, letter = next(
            (pair for pair in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if abs(value) >= pair[0]), (1, "")
        )
        return f"{value / unit:g}{letter}"

    def _log_ticks(self) -> list[float]:
        """Powers of ten. Of a short range also multiples of a power, or the ticks of a linear scale."""
        first, last = floor(log10(self.low)), ceil(log10(self.high))
        every = 1 + (last - first - 1) // TICKS_MAX
        for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
            powers = range(first, last + 1, every) if steps == (1,) else range(first, last + 1)
            values = [float(f"{step}e{power}") for power in powers for step in steps]
            within = [value for value in values if self.low <= value <= self.high]
            if len(within) >= TICKS_MIN:
                return within
        return self._linear_ticks()

    def _linear_ticks(self) -> list[float]:
        rough = (self.high - self.low) / (TICKS_MAX - 1)
        power = 10.0 ** floor(log10(rough))
        step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
        return [round(n * step, 12) for n in range(ceil(self.low / step), floor(self.high / step) + 1)]


@dataclass(frozen=True, slots=True)
class PlotMark:
    """A value: its text, where it is, and its interval. `series`: the number of its colour and shape."""

    series: int
    text: str
    at: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class PlotRow:
    """The marks of a name: bars below each other, or dots on one line. `text`: the result, right of them."""

    name: str
    marks: list[PlotMark]
    text: str = ""


@dataclass(frozen=True, slots=True)
class RowPlot:
    """`bars_from`: where bars begin; None for dots. `one_at`: where a line marks equal times."""

    title: str
    scale: AxisScale
    rows: list[PlotRow]
    legend: list[tuple[int, str]] = field(default_factory=list)
    bars_from: float | None = None
    one_at: float | None = None
    wide_names: bool = False

    @property
    def summary(self) -> str:
        """The chart in words."""
        names = dict(self.legend)
        rows = []
        for row in self.rows:
            marks = (f"{names.get(mark.series, '')} {mark.text}".strip() for mark in row.marks)
            text = row.text or ", ".join(marks)
            rows.append(f"{row.name}: {text}" if text else row.name)
        return f"{self.title}. {'; '.join(rows)}."


def series_numbers(names: Sequence[str]) -> list[int]:
    """1 to 8. An engine has a fixed number; other names take the remaining ones in order."""
    engines = list(ENGINE_NAMES)
    own = [engines.index(name.lower()) + 1 if name.lower() in engines else None for name in names]
    left = [number for number in range(1, SERIES_MAX + 1) if number not in own] or [SERIES_MAX]
    others = iter(left * (1 + len(names)))
    return [number or next(others) for number in own]


def number(cell: Any) -> float | None:
    """The cell as a float; None if it is not a finite number."""
    if isinstance(cell, bool) or not isinstance(cell, int | float) or not isfinite(cell):
        return None
    return float(cell)


def numbers(cells: Iterable[Any] | None) -> list[float]:
    return [value for value in map(number, cells or ()) if value is not None]


def bars(title: str, unit: str, values: Mapping[str, float]) -> RowPlot:
    """A bar for each value."""
    return row_plot(title, unit, [{"name": unit, "x": list(values), "y": list(values.values())}])


def row_plot(title: str, unit: str, series: Sequence[Mapping[str, Any]], *, log: bool = False) -> RowPlot:
    """A row for each x. `series`: name, x, y and, if known, low and high, as in a chart of a record."""
    cells = [cell for one in series for key in ("y", "low", "high") for cell in numbers(one.get(key))]
    scale = AxisScale.over(unit, cells, log=log)
    names = list(dict.fromkeys(str(x) for one in series for x in one["x"]))
    colours = series_numbers([one["name"] for one in series])
    by_engine = len(series) == 1 and all(name.lower() in ENGINE_NAMES for name in names)
    found: dict[str, list[PlotMark]] = {name: [] for name in names}
    for one, colour in zip(series, colours, strict=True):
        for index, x in enumerate(one["x"]):
            if (y := number(one["y"][index])) is not None:
                low, high = _ends(one, index)
                own = series_numbers([str(x)])[0] if by_engine else colour
                found[str(x)].append(PlotMark(own, scale.text(y), scale.place(y), *_placed(scale, low, high)))
    rows = [
        PlotRow(name, marks, marks[0].text if len(series) == 1 and marks else "")
        for name, marks in found.items()
    ]
    legend = list(zip(colours, (one["name"] for one in series), strict=True)) if len(series) > 1 else []
    return RowPlot(title, scale, rows, legend, None if scale.log else scale.place(0))


def _ends(one: Mapping[str, Any], index: int) -> tuple[float | None, float | None]:
    """The interval of a point; unknown if an end is."""
    if not one.get("low") or not one.get("high"):
        return None, None
    low, high = number(one["low"][index]), number(one["high"][index])
    return (low, high) if low is not None and high is not None else (None, None)


def _placed(scale: AxisScale, low: float | None, high: float | None) -> tuple[float | None, float | None]:
    return (None, None) if low is None or high is None else (scale.place(low), scale.place(high))


@dataclass(frozen=True, slots=True)
class PlanePoint:
    """`x`: percent of the width; `y`, `low`, `high`: pixels from the top; `step`: of a third value."""

    x: float
    y: float
    text: str
    low: float | None = None
    high: float | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class PlaneSeries:
    """`joined`: pairs of points with a line between. `reference`: drawn to compare with, not measured."""

    number: int
    name: str
    points: list[PlanePoint]
    joined: list[tuple[PlanePoint, PlanePoint]]
    reference: bool


@dataclass(frozen=True, slots=True)
class PlaneMark:
    """A position on the x axis, or a point."""

    sign: str
    text: str
    x: float
    y: float | None


@dataclass(frozen=True, slots=True)
class PlanePlot:
    title: str
    x_title: str
    y_title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    series: list[PlaneSeries]
    marks: list[PlaneMark]
    summary: str
    ramp: tuple[str, str, str] | None = None
    height: int = PLANE_PIXELS


def plane_plot(chart: Mapping[str, Any]) -> PlanePlot:
    """The points of a chart of a record, of kind `lines` or `points`."""
    series = chart["series"]
    names = list(dict.fromkeys(x for one in series for x in one["x"] if isinstance(x, str)))
    places: dict[Any, Any] = {name: index for index, name in enumerate(names)}
    xs = numbers(places.get(x, x) for one in series for x in one["x"])
    ys = [cell for one in series for key in ("y", "low", "high") for cell in numbers(one.get(key))]
    x_scale = AxisScale.over(chart["x"]["title"], xs, log=chart["x"]["log"] and not names, zero=False)
    y_scale = AxisScale.over(chart["y"]["title"], ys, log=chart["y"]["log"])
    third = numbers(cell for one in series for cell in one.get("colour") or ()) if chart.get("colour") else []

    def top(value: float) -> float:
        return round(PLANE_PIXELS * (1 - y_scale.place(value) / 100), 1)

    def point(one: Mapping[str, Any], index: int) -> PlanePoint | None:
        x, y = number(places.get(one["x"][index], one["x"][index])), number(one["y"][index])
        if x is None or y is None or (x_scale.log and x <= 0) or (y_scale.log and y <= 0):
            return None
        low, high = _ends(one, index)
        label = f"{one['text'][index]}: " if one.get("text") else ""
        where = f"{x_scale.title}: {one['x'][index] if names else digits(x)}"
        between = "" if low is None or high is None else f" ({y_scale.text(low)}–{y_scale.text(high)})"
        text = f"{label}{one['name']}: {y_scale.text(y)}{between}; {where}"
        step = _ramp_step((one.get("colour") or [None] * (index + 1))[index], third)
        ends = (None, None) if low is None or high is None else (top(low), top(high))
        return PlanePoint(x_scale.place(x), top(y), text, ends[0], ends[1], step)

    drawn = []
    for one, colour in zip(series, series_numbers([one["name"] for one in series]), strict=True):
        found = [point(one, index) for index in range(len(one["x"]))]
        points = [known for known in found if known]
        reference = str(one["name"]).startswith(REFERENCES)
        lines = reference or (chart["kind"] == "lines" and len(points) >= LINE_POINTS_MIN)
        joined = [(left, right) for left, right in pairwise(found) if lines and left and right]
        drawn.append(PlaneSeries(colour, str(one["name"]), points, joined, reference))
    marks = [
        PlaneMark(
            SIGNS[n % len(SIGNS)],
            mark["text"],
            x_scale.place(mark["x"]),
            None if mark.get("y") is None else top(mark["y"]),
        )
        for n, mark in enumerate(chart.get("marks") or ())
    ]
    x_ticks = [Tick(x_scale.place(n), name) for name, n in places.items()] if names else x_scale.ticks
    y_ticks = [Tick(round(PLANE_PIXELS * (1 - tick.at / 100), 1), tick.text) for tick in y_scale.ticks]
    ends = (digits(min(third)), digits(max(third)), str(chart["colour"])) if third else None
    summary = "; ".join(_summary(one) for one in drawn if one.points and not one.reference)
    return PlanePlot(
        chart["title"], _axis_title(x_scale), _axis_title(y_scale), x_ticks, y_ticks, drawn, marks,
        f"{chart['title']}. {y_scale.title} by {x_scale.title}. {summary}.", ends,
    )  # fmt: skip


def _axis_title(scale: AxisScale) -> str:
    return f"{scale.title}, log scale" if scale.log else scale.title


def _ramp_step(cell: Any, third: Sequence[float]) -> int | None:
    value = number(cell)
    if value is None or not third:
        return None
    low, high = min(third), max(third)
    scale = AxisScale("", low, high, log=0 < low < high / RAMP_LOG_FROM)
    return 1 + min(RAMP_STEPS - 1, int(RAMP_STEPS * scale.place(value) / 100)) if high > low else 1


def _summary(one: PlaneSeries) -> str:
    first, last = one.points[0], one.points[-1]
    return first.text if len(one.points) == 1 else f"from {first.text} to {last.text}"
