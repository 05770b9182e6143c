"""Where a ratio finally crosses 1, with an interval.

The logarithm of the ratio is interpolated between two places. Each resample draws the rounds of every place,
and a difference between runs (`bench.sampling`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite

import numpy as np

from bench.sampling import BETWEEN_RUNS, CONFIDENCE, RESAMPLES


@dataclass(frozen=True, slots=True)
class Crossing:
    """The ratio stays above 1 from `at` on. `at` is 0 if it is above 1 at all places, and infinite if it is
    below 1 at the last. `low` and `high` are the interval; `first` and `last` the smallest and largest place
    measured."""

    at: float
    low: float
    high: float
    first: float
    last: float

    @property
    def always(self) -> bool:
        return self.high == 0

    @property
    def never(self) -> bool:
        return self.low == inf


def crossing_of(places: Sequence[float], ratios: Sequence[Sequence[float]]) -> Crossing:
    """`places` are positive and ascending. `ratios` has the rounds of each; above 1 the columns are
    faster."""
    random = np.random.default_rng(len(places))
    drawn = np.empty((RESAMPLES, len(places)))
    for number, rounds in enumerate(ratios):
        of = np.asarray(rounds, dtype=np.float64)
        chosen = random.integers(0, len(of), (RESAMPLES, len(of)))
        drawn[:, number] = np.log(np.median(of[chosen], axis=1)) + random.normal(0, BETWEEN_RUNS, RESAMPLES)
    found = np.sort([_for_good(places, one.tolist()) for one in drawn])
    tail = (1 - CONFIDENCE) / 2
    # No interpolation between resamples: some may be infinite.
    low, high = found[int(tail * RESAMPLES)], found[int((1 - tail) * RESAMPLES) - 1]
    middle = _for_good(places, [float(np.log(np.median(rounds))) for rounds in ratios])
    # Near a tie, most resamples cross later than the median: the interval is extended to contain it.
    return Crossing(middle, min(float(low), middle), max(float(high), middle), places[0], places[-1])


def _for_good(places: Sequence[float], logs: Sequence[float]) -> float:
    if logs[-1] < 0:
        return inf
    steps = list(zip(pairwise(places), pairwise(logs), strict=True))
    for (near, far), (left, right) in reversed(steps):
        if left < 0 <= right:
            return float(near * (far / near) ** (-left / (right - left)))
    return 0.0


def words(crossing: Crossing, unit: str) -> str:
    """`from 12,000 rides (9,000 to 15,000)`, `at all sizes from 2,000 rides`, `not up to 20,000 rides`, or
    `between 9,000 and 15,000 rides`."""
    if crossing.always:
        return f"at all sizes from {crossing.first:,.0f} {unit}"
    if crossing.never:
        return f"not up to {crossing.last:,.0f} {unit}"
    low = f"less than {crossing.first:,.0f}" if crossing.low == 0 else f"{crossing.low:,.0f}"
    high = f"more than {crossing.last:,.0f}" if crossing.high == inf else f"{crossing.high:,.0f}"
    if crossing.at == 0 or not isfinite(crossing.at):
        return f"between {low} and {high} {unit}"
    return f"from {crossing.at:,.0f} {unit} ({low} to {high})"
