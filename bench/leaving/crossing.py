"""Where a ratio crosses 1 for good, with an interval.

Between two places it is a straight line of logarithms. Each resample draws the rounds of every place anew,
and what a ratio differs by from run to run (`bench.sampling`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite

import numpy as np

from bench.sampling import BETWEEN_RUNS, CONFIDENCE, RESAMPLES


@dataclass(frozen=True, slots=True)
class Crossing:
    """From `at` on the ratio stays over 1: 0 where it is so at the smallest place, infinite where it is not
    at the largest. So too the ends of the interval. `first` and `last` are the places measured."""

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
    """`places` ascend and are over 0; `ratios` has the rounds of each: over 1 the columns are faster."""
    random = np.random.default_rng(len(places))
    drawn = np.empty((RESAMPLES, len(places)))
    for number, rounds in enumerate(ratios):
        of = np.asarray(rounds, dtype=np.float64)
        chosen = random.integers(0, len(of), (RESAMPLES, len(of)))
        drawn[:, number] = np.log(np.median(of[chosen], axis=1)) + random.normal(0, BETWEEN_RUNS, RESAMPLES)
    found = np.sort([_for_good(places, one.tolist()) for one in drawn])
    tail = (1 - CONFIDENCE) / 2
    # Whole resamples: between one that crosses and one that never does there is nothing to interpolate.
    low, high = found[int(tail * RESAMPLES)], found[int((1 - tail) * RESAMPLES) - 1]
    middle = _for_good(places, [float(np.log(np.median(rounds))) for rounds in ratios])
    # Near a tie a resample that falls behind anywhere crosses later, so the middle may lie before them all.
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
    """`from 12,000 rides on (9,000 to 15,000)`, `already at 2,000 rides`, `never up to 20,000 rides`, or
    between what it lies."""
    if crossing.always:
        return f"already at {crossing.first:,.0f} {unit}"
    if crossing.never:
        return f"never up to {crossing.last:,.0f} {unit}"
    low = f"less than {crossing.first:,.0f}" if crossing.low == 0 else f"{crossing.low:,.0f}"
    high = f"more than {crossing.last:,.0f}" if crossing.high == inf else f"{crossing.high:,.0f}"
    if crossing.at == 0 or not isfinite(crossing.at):
        return f"somewhere from {low} to {high} {unit}"
    return f"from {crossing.at:,.0f} {unit} on ({low} to {high})"
