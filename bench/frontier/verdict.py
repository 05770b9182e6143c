"""One system for both? Judged by what each system reaches at its best, beside the best of all set-ups."""

from collections.abc import Sequence

from bench.figure import Verdict
from bench.frontier.envelope import as_words
from bench.frontier.grid import Measured

# Half of the best set-up: who keeps that of both serves both. Less than a tenth of either serves one.
SERVES = 0.5
BARELY = 0.1
# Peaks this near to each other are as good: points of one pass scatter as much.
TIE = 0.1


def judge(measured: Sequence[Measured]) -> tuple[Verdict, str]:
    """`holds` if a single system reaches half of the best bookings/s and half of the best questions/s of all
    set-ups, `does not hold` if none reaches a tenth of both; and one sentence with the figures."""
    shares = {one.name: _shares(one, measured) for one in measured}
    singles = [one for one in measured if one.single]
    nearest = max(singles, key=lambda one: min(shares[one.name]))
    weakest = min(shares[nearest.name])
    verdict: Verdict = (
        "holds" if weakest >= SERVES else "holds in part" if weakest >= BARELY else "does not hold"
    )
    best = [one.name for one in measured if min(shares[one.name]) >= 1 - TIE]
    leader = f"best in both is {' and '.join(best)}" if best else "nobody is best in both"
    told = "; ".join(_told(one, shares[one.name]) for one in measured)
    return verdict, f"{told}; {leader}."


def _shares(one: Measured, measured: Sequence[Measured]) -> tuple[float, float]:
    """What it reaches of the best bookings/s and of the best questions/s: 0–1."""
    most_bookings = max(other.best[0] for other in measured)
    most_questions = max(other.best[1] for other in measured)
    return one.best[0] / most_bookings, one.best[1] / most_questions


def _told(one: Measured, shares: tuple[float, float]) -> str:
    bookings, questions = one.best
    fresh = "always fresh" if one.age_seconds_p95 == 0 else f"up to {one.age_seconds_p95:.1f} s behind (p95)"
    return (
        f"{one.name} reaches {shares[0]:.0%} of the best bookings/s ({bookings:,.0f}) and {shares[1]:.0%} of "
        f"the best questions/s ({questions:,.0f}), {fresh}, with {as_words(one.area)} ({one.area:.2f})"
    )
