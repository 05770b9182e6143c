"""The median of rounds with its bootstrap interval.

Comparisons are made round by round, because other load affects all variants of a round.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
CONFIDENCE = (2.5, 97.5)  # percentiles of a 95 % interval

Numbers = NDArray[np.float64]


def resampled(rounds: int) -> NDArray[np.int64]:
    """Indexes of rounds, drawn with replacement, with a fixed seed."""
    return np.random.default_rng(1).integers(0, rounds, (RESAMPLES, rounds))


def spread(values: Sequence[float] | Numbers) -> tuple[float, float, float]:
    """The median and its interval."""
    of = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(np.median(of[resampled(len(of))], axis=1), CONFIDENCE)
    return float(np.median(of)), float(low), float(high)


def told(name: str, values: Sequence[float] | Numbers) -> dict[str, float]:
    """The median and its interval as entries of `extra_info`."""
    middle, low, high = spread(values)
    return {name: middle, f"{name}_low": low, f"{name}_high": high}


def interval(values: Sequence[float] | Numbers, digits: int = 2) -> str:
    """The median and its interval as text."""
    middle, low, high = spread(values)
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def geometric_mean(values: Sequence[float] | Numbers) -> float:
    return float(np.exp(np.mean(np.log(np.asarray(values, dtype=np.float64)))))
