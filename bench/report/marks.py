"""Marks: a symbol in the chart, with its text in the legend."""

from typing import Any

from bench.report.axes import TITLE_COLUMNS, folded
from bench.report.palette import FAINT, INK

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
