"""Times that can be compared: taken in turns, in one run, and told as a ratio with its interval.

    cold      A  B  C      each for the first time; the answers are compared
    round 1   A  B  C
    round 2   B  C  A      a busy moment slows all alike, and nobody is always first
    round 3   C  A  B

A ratio is that of two times of one round. Its interval is the percentile bootstrap of the median (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), widened by what the rounds of one run cannot
show: another run has its data elsewhere in memory and meets the machine in another mood (Kalibera and Jones,
Rigorous Benchmarking in Reasonable Time, 2013). So it says where another run of the same machine is to be
expected, not how often this one was repeated. Where it covers 1, the two are not distinguishable here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")

RESAMPLES = 2_000
CONFIDENCE = 0.95
# The standard deviation of a ratio's logarithm from run to run, beyond what its own rounds explain: as found
# between runs of the default scale on two cores that others used too. A quiet machine has less, and gets
# intervals that are too wide; hardly less than one part in ten to either side.
BETWEEN_RUNS = 0.05
# What a sample should take at least, so that neither the clock nor a passing interrupt decides it.
SAMPLE_SECONDS_MIN = 0.002
REPEATS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long one variant takes as another: the median of the rounds, and its interval. `label`
    says at what, where a figure has several."""

    of: str
    over: str
    median: float
    low: float
    high: float
    label: str = ""

    @property
    def distinguishable(self) -> bool:
        return not self.low <= 1 <= self.high

    def words(self) -> str:
        """`csv takes 3.1 × as long as parquet (2.9–3.3)`"""
        if not self.distinguishable:
            return f"{self.of} and {self.over} are not distinguishable ({self.low:.2f}–{self.high:.2f})"
        if self.median < 1:
            return Ratio(self.over, self.of, 1 / self.median, 1 / self.high, 1 / self.low).words()
        return (
            f"{self.of} takes {_times(self.median)} × as long as {self.over} "
            f"({_times(self.low)}–{_times(self.high)})"
        )


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"


def ratio_of(
    name: str, seconds: Sequence[float], other: str, others: Sequence[float], label: str = ""
) -> Ratio:
    """Of the times of two variants, round by round: both sequences are in the order of the rounds."""
    ratios = np.array(seconds) / np.array(others)
    random = np.random.default_rng(len(ratios))
    chosen = random.integers(0, len(ratios), (RESAMPLES, len(ratios)))
    medians = np.median(ratios[chosen], axis=1) * np.exp(random.normal(0, BETWEEN_RUNS, RESAMPLES))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    return Ratio(name, other, float(np.median(ratios)), float(low), float(high), label)


@dataclass(frozen=True, slots=True)
class Samples:
    """Of one variant: the seconds of its first, cold run, and of each round after it. One sample is the mean of
    `repeats` runs, where one alone is too short to be timed."""

    cold_seconds: float
    seconds: tuple[float, ...]
    repeats: int

    @property
    def median_seconds(self) -> float:
        return median(self.seconds)


class Turns(Generic[T]):
    """Several variants to the same answer, timed in turns. See the module.

    `cold` runs each once and gives the answers to compare; then `round` is called as often as wanted."""

    def __init__(self, variants: Mapping[str, Callable[[], T]]) -> None:
        self._variants = dict(variants)
        self._cold: dict[str, float] = {}
        self._seconds: dict[str, list[float]] = {name: [] for name in variants}
        self._repeats: dict[str, int] = {}
        self._rounds = 0

    def cold(self) -> dict[str, T]:
        answers: dict[str, T] = {}
        for name, variant in self._variants.items():
            begin = perf_counter()
            answers[name] = variant()
            self._cold[name] = perf_counter() - begin
        for name, variant in self._variants.items():
            begin = perf_counter()
            variant()
            warm = max(perf_counter() - begin, 1e-7)
            self._repeats[name] = min(REPEATS_MAX, max(1, round(SAMPLE_SECONDS_MIN / warm)))
            self._seconds[name] = []
        return answers

    def round(self) -> None:
        names = list(self._variants)
        first = self._rounds % len(names)
        self._rounds += 1
        for name in (*names[first:], *names[:first]):
            variant, repeats = self._variants[name], self._repeats[name]
            begin = perf_counter()
            for _ in range(repeats):
                variant()
            self._seconds[name].append((perf_counter() - begin) / repeats)

    @property
    def samples(self) -> dict[str, Samples]:
        return {
            name: Samples(self._cold[name], tuple(self._seconds[name]), self._repeats[name])
            for name in self._variants
        }

    @property
    def round_seconds(self) -> float:
        """What a round is expected to take."""
        return sum(max(seconds, SAMPLE_SECONDS_MIN) for seconds in self._cold.values())
