"""Charts of a record as plotly specifications: colors, marks, axes."""

from collections.abc import Sequence
from html import escape
from math import floor, log10
from textwrap import wrap
from typing import Any

from bench.report.quantities import digits, number

ENGINES = ("postgres", "duckdb", "polars")  # the same colour on every page
SYMBOLS = (
    ("circle", "●"),
    ("square", "■"),
    ("diamond", "◆"),
    ("triangle-up", "▲"),
    ("cross", "✚"),
    ("triangle-down", "▼"),
    ("star", "★"),
    ("x", "✖"),
)
PALETTE = tuple(f"var(--series-{index})" for index in range(1, 9))
INK, FAINT, LINE, PAPER = "var(--ink)", "var(--faint)", "var(--line)", "var(--paper)"
# Viridis: ordered by lightness as well as by hue; readable on light and dark backgrounds.
RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")


def colours_of(names: Sequence[str]) -> list[str]:
    """An engine has a fixed colour; other names take the remaining colours in order."""
    own = [engine_colour(name) for name in names]
    left = iter([colour for colour in PALETTE if colour not in own] * (1 + len(names)))
    return [colour or next(left) for colour in own]


def engine_colour(name: str) -> str | None:
    return next((PALETTE[index] for index, engine in enumerate(ENGINES) if engine == name.lower()), None)


def symbols_of(series: Sequence[Any]) -> list[tuple[str, str]]:
    """For each series, plotly's name of its symbol and a similar character."""
    return [SYMBOLS[index % len(SYMBOLS)] for index in range(len(series))]


Json = dict[str, Any]

SIGNS = "①②③④⑤⑥⑦⑧⑨⑩"


def numbered(chart: Json) -> list[tuple[str, Json]]:
    marks = chart.get("marks") or []
    return [(SIGNS[index % len(SIGNS)], mark) for index, mark in enumerate(marks)]


def across(sign: str, mark: Json, axis: str) -> Json:
    """A line across the plot at the mark."""
    other = "x" if axis == "y" else "y"
    return {
        "type": "line",
        f"{axis}0": mark["x"],
        f"{axis}1": mark["x"],
        f"{other}ref": "paper",
        f"{other}0": 0,
        f"{other}1": 1,
        "line": {"color": FAINT, "width": 1.2, "dash": "dash"},
        "label": {
            "text": sign,
            "textposition": "end",
            "textangle": 0,
            "xanchor": "left",
            "padding": 4,
            "font": {"color": INK, "size": 13},
        },
    }


def place(sign: str, mark: Json) -> Json:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [mark["x"]],
        "y": [mark["y"]],
        "text": [sign],
        "hovertext": [folded(mark["text"], TITLE_COLUMNS)],
        "hoverinfo": "text",
        "textposition": "middle right",
        "textfont": {"color": INK, "size": 13},
        "marker": {"symbol": "circle-open", "size": 15, "color": INK, "line": {"width": 1.5}},
        "cliponaxis": False,
    }


TITLE_COLUMNS = 48


def layout_of(x_axis: Json, y_axis: Json) -> Json:
    return {
        "xaxis": x_axis,
        "yaxis": y_axis,
        "showlegend": False,
        "dragmode": False,  # on a touch screen, dragging scrolls the page
        "margin": {"l": 8, "r": 24, "t": 16, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 12, "color": INK},
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": LINE, "font": {"color": INK}},
    }


def axis_of(axis: Json, log: bool, cells: Sequence[Any]) -> Json:
    return {
        "type": "log" if log else "linear",
        "title": {"text": folded(axis_title(axis), TITLE_COLUMNS), "standoff": 10},
        "automargin": True,
        "fixedrange": True,
        "gridcolor": LINE,
        "linecolor": FAINT,
        "zeroline": False,
        "exponentformat": "SI",
        "nticks": 6,
        **({"dtick": _log_ticks(cells)} if log else {}),
    }


def _log_ticks(cells: Sequence[Any]) -> int | str:
    """Powers of ten; for a short range 1, 2 and 5 of each, or all digits."""
    above = [value for value in map(number, cells) if value and value > 0]
    decades = log10(max(above) / min(above))
    if decades >= 2:
        return 1 + int(decades // 8)
    return "D2" if decades >= 0.5 else "D1"


def axis_title(axis: Json) -> str:
    return f"{axis['title']} (log scale)" if axis.get("log") else str(axis["title"])


def interval(one: Json) -> Json:
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
        "color": INK,
    }


def can_be_log(axis: Json, values: Sequence[Any]) -> bool:
    """Whether a logarithmic axis is requested and a value is positive."""
    return bool(axis.get("log")) and any((number(value) or 0) > 0 for value in values)


def log_range(cells: Sequence[Any]) -> list[float]:
    """The range in powers of ten. Without it plotly starts at the end of the shortest bar."""
    above = [value for value in map(number, cells) if value and value > 0]
    low, high = floor(log10(min(above) * 0.8)), log10(max(above))
    return [low, high + 0.05 * (high - low)]


def folded(text: object, columns: int) -> str:
    """The text in lines of plotly's HTML subset. Markup and formulas in the text are escaped."""
    return "<br>".join(escape(line, quote=False).replace("$", "&#36;") for line in wrap(str(text), columns))


LABEL_COLUMNS = 22  # line length of a category name; leaves half the width of a phone to the bars
NAMED_POINTS_MAX = 16  # more labels would overlap; they are shown on hover
BAR_PIXELS, LABEL_PIXELS, AXIS_PIXELS = 24, 15, 66
PLOT_PIXELS = 340


def drawing(chart: Json) -> Json:
    """`data` and `layout` for plotly, and the `height` in pixels."""
    return _bars(chart) if chart["kind"] == "bars" else _plane(chart)


def legend(chart: Json) -> list[tuple[str, str, str]]:
    """Symbol, colour and text of each series and each mark. A single series has no entry."""
    series = chart["series"]
    signs = ["■"] * len(series) if chart["kind"] == "bars" else [sign for _, sign in symbols_of(series)]
    colours = [INK] * len(series) if colour_range(chart) else colours_of([one["name"] for one in series])
    entries = [(sign, colour, one["name"]) for sign, colour, one in zip(signs, colours, series, strict=True)]
    marks = [(sign, INK, mark["text"]) for sign, mark in numbered(chart)]
    return [*(entries if len(entries) > 1 else []), *marks]


def colour_range(chart: Json) -> tuple[float, float] | None:
    """Minimum and maximum of the third value, if the chart has one; bars have none."""
    if not chart.get("colour") or chart["kind"] == "bars":
        return None
    cells = [number(cell) for one in chart["series"] for cell in one.get("colour") or []]
    known = [cell for cell in cells if cell is not None]
    return (min(known), max(known)) if known else None


def _texts(one: Json) -> list[str] | None:
    """The labels of the points."""
    return [folded(text, LABEL_COLUMNS) for text in one["text"]] if one.get("text") else None


def has_marks(chart: Json) -> bool:
    """Whether the chart has a value to draw."""
    return any(number(y) is not None for one in chart["series"] for y in one["y"])


def _bars(chart: Json) -> Json:
    """Horizontal bars, so that names are horizontal text."""
    series = chart["series"]
    values = [value for one in series for key in ("y", "low") for value in one.get(key) or []]
    log = can_be_log(chart["y"], values)
    data = []
    for one, colour in zip(series, colours_of([one["name"] for one in series]), strict=True):
        names = [str(x) for x in one["x"]]
        engines = len(series) == 1 and all(engine_colour(name) for name in names)
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": folded(one["name"], LABEL_COLUMNS),
                "y": [folded(name, LABEL_COLUMNS) for name in names],
                "x": [number(y) for y in one["y"]],
                "error_x": interval(one),
                "marker": {"color": [engine_colour(name) for name in names] if engines else colour},
                "hovertext": _texts(one),
                **_values_at_the_ends(one),
            }
        )
    highs = [high for one in series for high in one.get("high") or []]
    value_axis = axis_of(chart["y"], log, [*values, *highs]) | ({} if log else {"rangemode": "tozero"})
    if log:
        value_axis["range"] = log_range([*values, *highs])
    category_axis = axis_of(chart["x"], False, []) | {
        "type": "category",
        "autorange": "reversed",
        "title": None,
        "showgrid": False,
    }
    layout = layout_of(value_axis, category_axis) | {
        "barmode": "group",
        "bargap": 0.25,
        "shapes": [across(sign, mark, "y") for sign, mark in numbered(chart) if mark.get("y") is None],
    }
    return {"data": data, "layout": layout, "height": AXIS_PIXELS + _bars_pixels(series)}


def _bars_pixels(series: Sequence[Json]) -> int:
    """The height of all bars; a long name may need more than its bars."""
    names = dict.fromkeys(str(x) for one in series for x in one["x"])
    lines = max((folded(name, LABEL_COLUMNS).count("<br>") + 1 for name in names), default=1)
    return len(names) * max(BAR_PIXELS * len(series) + 8, LABEL_PIXELS * lines + 8)


def _values_at_the_ends(one: Json) -> Json:
    """The value at the end of each bar, if there are no error bars."""
    if one.get("low") and one.get("high"):
        return {}
    texts = ["" if (y := number(cell)) is None else digits(y) for cell in one["y"]]
    return {
        "text": texts,
        "textposition": "auto",
        "textangle": 0,
        "insidetextanchor": "end",
        "cliponaxis": False,
    }


def _plane(chart: Json) -> Json:
    """Points, with or without connecting lines."""
    series = chart["series"]
    categories = any(isinstance(x, str) for one in series for x in one["x"])
    named = sum(len(one.get("text") or []) for one in series) <= NAMED_POINTS_MAX
    colours = colours_of([one["name"] for one in series])
    data = [
        _scatter(chart, one, colour, symbol, named)
        | {"x": [folded(x, LABEL_COLUMNS) if categories else number(x) for x in one["x"]]}
        for one, colour, (symbol, _) in zip(series, colours, symbols_of(series), strict=True)
    ]
    marks = numbered(chart)
    data += [place(sign, mark) for sign, mark in marks if mark.get("y") is not None]
    xs, ys = ([cell for one in series for cell in one[axis]] for axis in ("x", "y"))
    x_axis = axis_of(chart["x"], can_be_log(chart["x"], xs), xs)
    y_log = can_be_log(chart["y"], ys)
    y_axis = axis_of(chart["y"], y_log, ys) | ({} if y_log else {"rangemode": "tozero"})
    if categories:
        x_axis["type"] = "category"
    layout = layout_of(x_axis, y_axis | {"title": None})
    layout["shapes"] = [across(sign, mark, "x") for sign, mark in marks if mark.get("y") is None]
    ends = colour_range(chart)
    if ends:
        scale = [[index / (len(RAMP) - 1), colour] for index, colour in enumerate(RAMP)]
        layout["coloraxis"] = {"colorscale": scale, "cmin": ends[0], "cmax": ends[1], "showscale": False}
    return {"data": data, "layout": layout, "height": PLOT_PIXELS}


def _scatter(chart: Json, one: Json, colour: str, symbol: str, named: bool) -> Json:
    lines = chart["kind"] == "lines"
    text = _texts(one)
    third = one.get("colour") if colour_range(chart) else None
    marker: Json = {"size": 8 if lines else 10, "symbol": symbol, "color": colour}
    if third:
        marker |= {"color": [number(value) for value in third], "coloraxis": "coloraxis", "size": 11}
        marker["line"] = {"width": 1, "color": FAINT}
    return {
        "type": "scatter",
        "mode": "+".join(["markers"] + ["lines"] * lines + ["text"] * bool(text and named)),
        "name": folded(one["name"], LABEL_COLUMNS),
        "y": [number(y) for y in one["y"]],
        "error_y": interval(one) | {"color": FAINT if third else colour},
        "marker": marker,
        "line": {"width": 2, "color": FAINT if third else colour},
        "text": text,
        "textposition": "top center",
        "cliponaxis": False,
    }
