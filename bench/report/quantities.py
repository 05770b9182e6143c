"""Numbers for display: three significant digits and a unit."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

UNITS = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))


def number(cell: Any) -> float | None:
    """The cell as a float; None if it is not a finite number."""
    if isinstance(cell, bool) or not isinstance(cell, int | float) or not isfinite(cell):
        return None
    return float(cell)


def seconds_text(seconds: float) -> str:
    """0.00123 → 1.23 ms"""
    unit, name = next(
        ((unit, name) for unit, name in reversed(UNITS) if seconds >= unit), (UNITS[0][0], UNITS[0][1])
    )
    return f"{digits(seconds / unit)} {name}"


def digits(value: float) -> str:
    """Three significant digits: 1234567.8 → 1,234,568; 12.345 → 12.3; 0.00012345 → 0.000123"""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1e-4 else f"{float(f'{value:.3g}'):.10g}"


def percentile(seconds: Sequence[float], percent: float) -> float:
    return float(np.percentile(seconds, percent))
