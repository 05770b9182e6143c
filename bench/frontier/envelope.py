"""The frontier of measured points and its area. A point is (bookings/s, queries/s).

The frontier connects (0, best queries/s), the Pareto-optimal points and (best bookings/s, 0) by straight
lines.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

XY = tuple[float, float]

ISOLATED, PROPORTIONAL = 1.0, 0.5
# Tolerance around one half: the areas of single rounds differ by some hundredths.
NEAR = 0.05


def frontier(points: Iterable[XY]) -> list[XY]:
    """The upper right edge, from the y axis to the x axis. Empty without points."""
    best: list[XY] = []
    for x, y in sorted(set(points), reverse=True):
        if not best or y > best[-1][1]:
            best.append((x, y))
    if not best:
        return []
    best.reverse()
    (_, y_max), (x_max, _) = best[0], best[-1]
    return list(dict.fromkeys([(0.0, y_max), *best, (x_max, 0.0)]))


def bounding_box(points: Sequence[XY]) -> XY:
    """The best bookings/s and the best queries/s, each at its own point."""
    return max(x for x, _ in points), max(y for _, y in points)


def area_share(points: Sequence[XY]) -> float:
    """The area under the frontier as a share of its bounding box: 0–1. 0 for a box without area."""
    x_max, y_max = bounding_box(points)
    if x_max <= 0 or y_max <= 0:
        return 0.0
    # Normalised first: the product of very small or very large numbers would lose precision.
    edge = [(x / x_max, y / y_max) for x, y in frontier(points)]
    return sum((right - left) * (high + low) / 2 for (left, high), (right, low) in pairwise(edge))


def as_words(share: float) -> str:
    """The name of an area: `interference`, `proportional sharing`, `partly isolated`, `near isolation`."""
    if share < PROPORTIONAL - NEAR:
        return "interference"
    if share <= PROPORTIONAL + NEAR:
        return "proportional sharing"
    return "near isolation" if share >= ISOLATED - NEAR else "partly isolated"
