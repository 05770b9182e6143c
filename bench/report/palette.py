"""Colours, by their names in the style sheet, and symbols. A series has both, for colour-blind readers."""

from collections.abc import Sequence
from typing import Any

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
