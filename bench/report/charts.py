"""A chart of a record as plotly's data and layout. Colours are names of the style sheet, which page.js
replaces. Titles, legends and captions are HTML, because plotly cannot wrap lines.
"""

from collections.abc import Sequence
from typing import Any

from bench.report.axes import axis_of, can_be_log, folded, interval, layout_of, log_range
from bench.report.marks import across, numbered, place
from bench.report.palette import FAINT, INK, RAMP, colours_of, engine_colour, symbols_of
from bench.report.quantities import digits, number

Json = dict[str, Any]

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
