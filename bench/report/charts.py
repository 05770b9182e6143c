"""Charts of a record as plotly specifications. Colours are names of the style sheet (`var(--series-1)`)."""

from collections.abc import Sequence
from html import escape
from math import floor, isfinite, log10
from textwrap import wrap
from typing import Any

from ridelake.text import digits

Json = dict[str, Any]

ENGINES = ("postgres", "duckdb", "polars")  # the same colour on every page
SYMBOLS = {
    "circle": "●",
    "square": "■",
    "diamond": "◆",
    "triangle-up": "▲",
    "cross": "✚",
    "triangle-down": "▼",
    "star": "★",
    "x": "✖",
}
SIGNS = "①②③④⑤⑥⑦⑧⑨⑩"  # one for each mark
PALETTE = tuple(f"var(--series-{index})" for index in range(1, 9))
INK, FAINT, LINE, PAPER = "var(--ink)", "var(--faint)", "var(--line)", "var(--paper)"
# Viridis: ordered by lightness as well as by hue; readable on light and dark backgrounds.
RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")

TITLE_COLUMNS = 48
LABEL_COLUMNS = 22  # line length of a category name; leaves half the width of a phone to the bars
NAMED_POINTS_MAX = 10  # more labels would overlap; they are shown on hover
BAR_PIXELS, LABEL_PIXELS, AXIS_PIXELS = 24, 15, 66
PLOT_PIXELS = 340

AXIS = {
    "automargin": True,
    "fixedrange": True,
    "gridcolor": LINE,
    "linecolor": FAINT,
    "zeroline": False,
    "exponentformat": "SI",
    "nticks": 6,
}
LAYOUT = {
    "showlegend": False,
    "dragmode": False,  # on a touch screen, dragging scrolls the page
    "margin": {"l": 8, "r": 24, "t": 16, "b": 8},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 12, "color": INK},
    "hoverlabel": {"bgcolor": PAPER, "bordercolor": LINE, "font": {"color": INK}},
    "bargap": 0.25,
}


def drawing(chart: Json) -> Json:
    """`data` and `layout` for plotly, and the `height` in pixels."""
    return _bars(chart) if chart["kind"] == "bars" else _points(chart)


def legend(chart: Json) -> list[tuple[str, str, str]]:
    """Symbol, colour and text of each series and each mark. A single series has no entry."""
    series = chart["series"]
    colours = [INK] * len(series) if colour_range(chart) else _colours(one["name"] for one in series)
    signs = ["■"] * len(series) if chart["kind"] == "bars" else _cycled(list(SYMBOLS.values()), len(series))
    entries = [(sign, colour, one["name"]) for sign, colour, one in zip(signs, colours, series, strict=True)]
    return [
        *(entries if len(entries) > 1 else []),
        *((sign, INK, mark["text"]) for sign, mark in _marks(chart)),
    ]


def colour_range(chart: Json) -> tuple[float, float] | None:
    """Minimum and maximum of the third value, if the chart has one; bars have none."""
    if not chart.get("colour") or chart["kind"] == "bars":
        return None
    known = _numbers(cell for one in chart["series"] for cell in one.get("colour") or [])
    return (min(known), max(known)) if known else None


def has_values(chart: Json) -> bool:
    return bool(_numbers(y for one in chart["series"] for y in one["y"]))


def number(cell: Any) -> float | None:
    """The cell as a float; None if it is not a finite number."""
    if isinstance(cell, bool) or not isinstance(cell, int | float) or not isfinite(cell):
        return None
    return float(cell)


def axis_title(axis: Json) -> str:
    return f"{axis['title']} (log scale)" if axis.get("log") else str(axis["title"])


def _numbers(cells: Any) -> list[float]:
    return [value for value in map(number, cells) if value is not None]


def _cycled(values: Sequence[str], count: int) -> list[str]:
    return [values[index % len(values)] for index in range(count)]


def _colours(names: Any) -> list[str]:
    """An engine has a fixed colour; other names take the remaining colours in order."""
    own = [_engine_colour(name) for name in names]
    left = iter(_cycled([colour for colour in PALETTE if colour not in own], len(own)))
    return [colour or next(left) for colour in own]


def _engine_colour(name: str) -> str | None:
    return PALETTE[ENGINES.index(name.lower())] if name.lower() in ENGINES else None


def _marks(chart: Json) -> list[tuple[str, Json]]:
    """Bars have no marks."""
    marks = [] if chart["kind"] == "bars" else chart.get("marks") or []
    return list(zip(_cycled(SIGNS, len(marks)), marks, strict=True))


def _folded(text: object, columns: int) -> str:
    """The text in lines of plotly's HTML subset. Markup and formulas in the text are escaped."""
    return "<br>".join(escape(line, quote=False).replace("$", "&#36;") for line in wrap(str(text), columns))


def _labels(one: Json) -> list[str] | None:
    return [_folded(text, LABEL_COLUMNS) for text in one["text"]] if one.get("text") else None


def _axis(axis: Json, cells: Sequence[Any]) -> Json:
    """A logarithmic axis, if it is requested and a value is positive; otherwise a linear one."""
    above = [value for value in _numbers(cells) if value > 0]
    title = {"text": _folded(axis_title(axis), TITLE_COLUMNS), "standoff": 10}
    if not axis.get("log") or not above:
        return AXIS | {"type": "linear", "title": title, "rangemode": "tozero"}
    return AXIS | {"type": "log", "title": title} | _log_ticks(min(above), max(above))


def _log_ticks(low: float, high: float) -> Json:
    """Ticks at powers of ten; for a short range also at 2 and 5 of each, or at all digits."""
    decades = log10(high / low)
    if decades >= 2:
        return {"dtick": 1 + int(decades // 8)}
    steps = (1, 2, 5) if decades >= 0.5 else range(1, 10)
    values = [
        step * 10**power for power in range(floor(log10(low)), floor(log10(high)) + 1) for step in steps
    ]
    return {"tickvals": values, "ticktext": [digits(value) for value in values]}


def _interval(one: Json, colour: str) -> Json:
    """Lengths of the error bars from y; a bar with an unknown end is not drawn."""
    if not one.get("low") or not one.get("high"):
        return {"visible": False}
    ends = list(zip(map(number, one["y"]), map(number, one["low"]), map(number, one["high"]), strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [None if y is None or high is None else max(0.0, high - y) for y, _, high in ends],
        "arrayminus": [None if y is None or low is None else max(0.0, y - low) for y, low, _ in ends],
        "thickness": 1.4,
        "width": 4,
        "color": colour,
    }


def _bars(chart: Json) -> Json:
    """Horizontal bars, so that names are horizontal text."""
    series = chart["series"]
    cells = [cell for one in series for key in ("y", "low", "high") for cell in one.get(key) or []]
    colours = _colours(one["name"] for one in series)
    value_axis = _axis(chart["y"], cells)
    if value_axis["type"] == "log":  # without a range, plotly starts at the end of the shortest bar
        above = [value for value in _numbers(cells) if value > 0]
        low, high = floor(log10(min(above) * 0.8)), log10(max(above))
        value_axis["range"] = [low, high + 0.05 * (high - low)]
    category_axis = AXIS | {"type": "category", "autorange": "reversed", "showgrid": False}
    return {
        "data": [_bar(one, colour, len(series)) for one, colour in zip(series, colours, strict=True)],
        "layout": LAYOUT | {"xaxis": value_axis, "yaxis": category_axis},
        "height": AXIS_PIXELS + _bars_pixels(series),
    }


def _bar(one: Json, colour: str, series: int) -> Json:
    names = [str(x) for x in one["x"]]
    engines = [_engine_colour(name) for name in names]
    found = {
        "type": "bar",
        "orientation": "h",
        "name": _folded(one["name"], LABEL_COLUMNS),
        "y": [_folded(name, LABEL_COLUMNS) for name in names],
        "x": [number(y) for y in one["y"]],
        "error_x": _interval(one, INK),
        "marker": {"color": engines if series == 1 and all(engines) else colour},
        "hovertext": _labels(one),
    }
    if one.get("low") and one.get("high"):
        return found
    values = ["" if (y := number(cell)) is None else digits(y) for cell in one["y"]]
    place = {"textposition": "auto", "textangle": 0, "insidetextanchor": "end", "cliponaxis": False}
    return found | {"text": values} | place


def _bars_pixels(series: Sequence[Json]) -> int:
    """The height of all bars; a long name may need more than its bars."""
    names = dict.fromkeys(str(x) for one in series for x in one["x"])
    lines = max((_folded(name, LABEL_COLUMNS).count("<br>") + 1 for name in names), default=1)
    return len(names) * max(BAR_PIXELS * len(series) + 8, LABEL_PIXELS * lines + 8)


def _points(chart: Json) -> Json:
    """Points, with or without connecting lines."""
    series, marks = chart["series"], _marks(chart)
    colours = _colours(one["name"] for one in series)
    symbols = _cycled(list(SYMBOLS), len(series))
    data = [_scatter(chart, *one) for one in zip(series, colours, symbols, strict=True)]
    data += [_circle(sign, mark) for sign, mark in marks if mark.get("y") is not None]
    xs, ys = ([cell for one in series for cell in one[axis]] for axis in ("x", "y"))
    x_axis = _axis(chart["x"], xs)
    if _has_categories(chart):
        x_axis["type"] = "category"
    elif x_axis["type"] == "linear":
        del x_axis["rangemode"]
    layout = LAYOUT | {"xaxis": x_axis, "yaxis": _axis(chart["y"], ys) | {"title": None}}
    layout["shapes"] = [_line(sign, mark) for sign, mark in marks if mark.get("y") is None]
    if ends := colour_range(chart):
        scale = [[index / (len(RAMP) - 1), colour] for index, colour in enumerate(RAMP)]
        layout["coloraxis"] = {"colorscale": scale, "cmin": ends[0], "cmax": ends[1], "showscale": False}
    return {"data": data, "layout": layout, "height": PLOT_PIXELS}


def _has_categories(chart: Json) -> bool:
    return any(isinstance(x, str) for one in chart["series"] for x in one["x"])


def _scatter(chart: Json, one: Json, colour: str, symbol: str) -> Json:
    lines = chart["kind"] == "lines"
    labels = _labels(one)
    named = sum(len(one.get("text") or []) for one in chart["series"]) <= NAMED_POINTS_MAX
    third = one.get("colour") if colour_range(chart) else None
    marker: Json = {"size": 8 if lines else 10, "symbol": symbol, "color": colour}
    if third:
        colour = FAINT
        marker |= {"color": [number(value) for value in third], "coloraxis": "coloraxis", "size": 11}
        marker["line"] = {"width": 1, "color": FAINT}
    return {
        "type": "scatter",
        "mode": "+".join(["markers"] + ["lines"] * lines + ["text"] * bool(labels and named)),
        "name": _folded(one["name"], LABEL_COLUMNS),
        "x": [_folded(x, LABEL_COLUMNS) if _has_categories(chart) else number(x) for x in one["x"]],
        "y": [number(y) for y in one["y"]],
        "error_y": _interval(one, colour),
        "marker": marker,
        "line": {"width": 2, "color": colour},
        "text": labels,
        "textposition": "top center",
        "cliponaxis": False,
    }


def _line(sign: str, mark: Json) -> Json:
    """A line across the plot at a mark without y."""
    label = {"text": sign, "textposition": "end", "textangle": 0, "xanchor": "left", "padding": 4}
    return {
        "type": "line",
        "x0": mark["x"],
        "x1": mark["x"],
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": FAINT, "width": 1.2, "dash": "dash"},
        "label": label | {"font": {"color": INK, "size": 13}},
    }


def _circle(sign: str, mark: Json) -> Json:
    """A circle around a marked point."""
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [mark["x"]],
        "y": [mark["y"]],
        "text": [sign],
        "hovertext": [_folded(mark["text"], TITLE_COLUMNS)],
        "hoverinfo": "text",
        "textposition": "middle right",
        "textfont": {"color": INK, "size": 13},
        "marker": {"symbol": "circle-open", "size": 15, "color": INK, "line": {"width": 1.5}},
        "cliponaxis": False,
    }
