"""A figure and how far to trust it: the median of rounds, and the interval that a bootstrap gives it.

Whoever is slowed by a busy machine is slowed in the same round; so what is compared is taken round by round.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
CONFIDENCE = (2.5, 97.5)  # percentiles: 95 of 100 such intervals hold the true median

Numbers = NDArray[np.float64]


def resampled(rounds: int) -> NDArray[np.int64]:
    """Numbers of rounds, drawn again and again with replacement: always the same ones."""
    return np.random.default_rng(1).integers(0, rounds, (RESAMPLES, rounds))


def spread(values: Sequence[float] | Numbers) -> tuple[float, float, float]:
    """The median, and its interval."""
    of = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(np.median(of[resampled(len(of))], axis=1), CONFIDENCE)
    return float(np.median(of)), float(low), float(high)


def told(name: str, values: Sequence[float] | Numbers) -> dict[str, float]:
    """For `extra_info`: three figures."""
    middle, low, high = spread(values)
    return {name: middle, f"{name}_low": low, f"{name}_high": high}


def interval(values: Sequence[float] | Numbers, digits: int = 2) -> str:
    """For a table's cell."""
    middle, low, high = spread(values)
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def geometric_mean(values: Sequence[float] | Numbers) -> float:
    return float(np.exp(np.mean(np.log(np.asarray(values, dtype=np.float64)))))
