"""Colours by their names in the style sheet, and signs: a series has both, for who does not see the one."""

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
# From low to high by lightness as well as by hue, on light and dark ground (viridis).
RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")


def colours_of(names: Sequence[str]) -> list[str]:
    """An engine has its own; the others take what is left, in order."""
    own = [engine_colour(name) for name in names]
    left = iter([colour for colour in PALETTE if colour not in own] * (1 + len(names)))
    return [colour or next(left) for colour in own]


def engine_colour(name: str) -> str | None:
    return next((PALETTE[index] for index, engine in enumerate(ENGINES) if engine == name.lower()), None)


def symbols_of(series: Sequence[Any]) -> list[tuple[str, str]]:
    """Plotly's name of each one's symbol, and the sign that looks like it."""
    return [SYMBOLS[index % len(SYMBOLS)] for index in range(len(series))]
