"""The verdict on one system for both kinds of work: the best rates of each set-up as shares of the best of
all.

A rate is a count, and the standard error of a count n is √n. If the interval of a share contains the
threshold, the claim holds in part.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.figure import Verdict
from bench.frontier.grid import FrontierResult, Point

# A system serves both with half of the best rates of both; with less than a tenth of one it does not.
SERVES = 0.5
BARELY = 0.1
STANDARD_ERRORS = 1.96  # 95 % interval


@dataclass(frozen=True, slots=True)
class Share:
    """A rate as a share of the best rate of all set-ups, with its interval."""

    rate: float
    of_best: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SetUpShares:
    """The shares of a set-up of both kinds of work."""

    measured: FrontierResult
    bookings: Share
    questions: Share

    @property
    def low(self) -> float:
        return min(self.bookings.low, self.questions.low)

    @property
    def high(self) -> float:
        return min(self.bookings.high, self.questions.high)


def judge(measured: Sequence[FrontierResult]) -> Verdict:
    """`holds` if a single system reaches half of the best bookings/s and half of the best queries/s; `does
    not hold` if none reaches a tenth of both; considering the intervals."""
    bookings = _shares(measured, lambda point: point.bookings)
    questions = _shares(measured, lambda point: point.questions)
    standings = [SetUpShares(*one) for one in zip(measured, bookings, questions, strict=True)]
    singles = [one for one in standings if one.measured.single]
    verdict: Verdict = "holds in part"
    if max(one.low for one in singles) >= SERVES:
        verdict = "holds"
    elif max(one.high for one in singles) < BARELY:
        verdict = "does not hold"
    return verdict


def _shares(measured: Sequence[FrontierResult], count: Callable[[Point], int]) -> list[Share]:
    """The share of each set-up at its best point, for one kind of work."""
    peaks = [max(one.points, key=lambda point: count(point) / point.seconds) for one in measured]
    best = max(peaks, key=lambda point: count(point) / point.seconds)
    best_rate = count(best) / best.seconds
    shares = []
    for peak in peaks:
        rate = count(peak) / peak.seconds
        error = (
            0.0
            if peak is best
            else STANDARD_ERRORS * math.sqrt(sum(1 / max(1, count(p)) for p in (peak, best)))
        )
        share = rate / best_rate if best_rate else 0.0
        shares.append(Share(rate, share, share * math.exp(-error), share * math.exp(error)))
    return shares
