"""One system for both? Judged by what each set-up reaches at its best, as a share of the best of them all.

A rate is a count, and a count n has an error of √n: a share is told with its interval, and where that covers
the border, the verdict is the middle one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.figure import Verdict
from bench.frontier.envelope import as_words
from bench.frontier.grid import Measured, Point

# Half of the best set-up: who keeps that of both serves both. Less than a tenth of either serves one.
SERVES = 0.5
BARELY = 0.1
STANDARD_ERRORS = 1.96  # 95 of 100


@dataclass(frozen=True, slots=True)
class Share:
    """Of the best rate of all set-ups, with its interval."""

    rate: float
    of_best: float
    low: float
    high: float

    def words(self, what: str) -> str:
        return f"{self.of_best:.0%} of the best {what} ({self.rate:,.0f})"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a set-up reaches of both."""

    measured: Measured
    bookings: Share
    questions: Share

    @property
    def low(self) -> float:
        return min(self.bookings.low, self.questions.low)

    @property
    def high(self) -> float:
        return min(self.bookings.high, self.questions.high)

    def words(self) -> str:
        area = self.measured.area
        return (
            f"{self.measured.name} reaches {self.bookings.words('bookings/s')} and "
            f"{self.questions.words('questions/s')}, {_freshness(self.measured)}, "
            f"{as_words(area)} (area {area:.2f})"
        )


def _freshness(measured: Measured) -> str:
    age_seconds = measured.age_seconds_p95
    if measured.single:
        return "always fresh"
    told = f"{age_seconds:.1f} s" if age_seconds >= 0.1 else f"{1_000 * age_seconds:.1f} ms"
    return f"up to {told} behind (p95)"


def judge(measured: Sequence[Measured]) -> tuple[Verdict, str]:
    """`holds` if a single system surely has half of the best bookings/s and half of the best questions/s,
    `does not hold` if surely none has a tenth of both; and one sentence with the figures."""
    bookings = _shares(measured, lambda point: point.bookings)
    questions = _shares(measured, lambda point: point.questions)
    standings = [Standing(*one) for one in zip(measured, bookings, questions, strict=True)]
    singles = [one for one in standings if one.measured.single]
    verdict: Verdict = "holds in part"
    if max(one.low for one in singles) >= SERVES:
        verdict = "holds"
    elif max(one.high for one in singles) < BARELY:
        verdict = "does not hold"
    best = [one.measured.name for one in standings if one.high >= 1]
    leader = (
        f"within the intervals, best in both is {' or '.join(best)}" if best else "nobody is best in both"
    )
    return verdict, f"{'; '.join(one.words() for one in standings)}; {leader}."


def _shares(measured: Sequence[Measured], count: Callable[[Point], int]) -> list[Share]:
    """Of one kind of work, of each set-up at its best point for it."""
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
