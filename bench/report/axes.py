"""Axes, error bars and the common layout of all charts, for plotly."""

from collections.abc import Sequence
from html import escape
from math import floor, log10
from textwrap import wrap
from typing import Any

from bench.report.palette import FAINT, INK, LINE, PAPER
from bench.report.quantities import number

Json = dict[str, Any]

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
