"""Ratios of a record, as they are compared by eye."""

from typing import Any

from bench.sampling import Ratio


def ratio_from(kept: dict[str, Any]) -> Ratio:
    return Ratio(kept["of"], kept["over"], kept["median"], kept["low"], kept["high"])


def slower_over_faster(ratio: Ratio) -> Ratio:
    """So that all of them begin at 1."""
    if ratio.median >= 1:
        return ratio
    return Ratio(ratio.over, ratio.of, 1 / ratio.median, 1 / ratio.high, 1 / ratio.low)
