"""Interleaved samples, medians, ratios and their bootstrap intervals.

Comparisons are made round by round, because other load affects all variants of a round.

    cold      A  B  C      each for the first time; the answers are compared
    round 1   A  B  C
    round 2   B  C  A      other load slows all variants, and no variant is always first
    round 3   C  A  B

A ratio is that of two times of the same round. Its interval is the percentile bootstrap of the median (Efron
and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), widened by the differences between runs,
which the rounds of one run cannot show (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, 2013).
It is the range in which another run on the same machine is expected. If it contains 1, the run shows no
measurable difference.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ridelake.text import ratio_text

RESAMPLES = 2_000
CONFIDENCE = 0.95
# Standard deviation of the logarithm of a ratio from run to run, beyond the spread of its own rounds.
# Measured between runs of the default scale on two shared cores. On a quieter machine the intervals are too
# wide.
BETWEEN_RUNS = 0.05
# Minimum length of a sample: a shorter one is dominated by the clock and by interrupts.
SAMPLE_SECONDS_MIN = 0.002
REPEATS_MAX = 10_000

Numbers = Sequence[float] | NDArray[np.float64]
T = TypeVar("T")


def percentile(samples: Numbers, percent: float) -> float:
    """Interpolated between samples. `samples` must not be empty."""
    return float(np.percentile(samples, percent))


def quartiles(samples: Sequence[Numbers]) -> tuple[list[Any], list[Any], list[Any]]:
    """The median, the lower and the upper quartile of each, as a chart draws them."""
    median_, low, high = ([percentile(of, percent) for of in samples] for percent in (50, 25, 75))
    return median_, low, high


def resampled_medians(rounds: Numbers, random: np.random.Generator) -> NDArray[np.float64]:
    """The medians of `RESAMPLES` resamples of the rounds, each with a difference between runs."""
    of = np.asarray(rounds, dtype=np.float64)
    chosen = random.integers(0, len(of), (RESAMPLES, len(of)))
    return np.median(of[chosen], axis=1) * np.exp(random.normal(0, BETWEEN_RUNS, RESAMPLES))


def interval(rounds: Numbers) -> tuple[float, float]:
    """The interval of the median of the rounds."""
    medians = resampled_medians(rounds, np.random.default_rng(len(rounds)))
    tail = 100 * (1 - CONFIDENCE) / 2
    return percentile(medians, tail), percentile(medians, 100 - tail)


@dataclass(frozen=True, slots=True)
class Ratio:
    """The time of `of` divided by the time of `over`: the median of the rounds, and its 95 % interval.
    `label` names the task, if a figure has several."""

    of: str
    over: str
    median: float
    low: float
    high: float
    label: str = ""

    @classmethod
    def from_record(cls, kept: Mapping[str, Any]) -> "Ratio":
        """The ratio as stored in a record. Raises KeyError for a damaged record."""
        return cls(kept["of"], kept["over"], kept["median"], kept["low"], kept["high"], kept.get("label", ""))

    @property
    def distinguishable(self) -> bool:
        return not self.low <= 1 <= self.high

    def at_least_one(self) -> "Ratio":
        """The same ratio with the slower variant as `of`."""
        if self.median >= 1:
            return self
        return Ratio(self.over, self.of, 1 / self.median, 1 / self.high, 1 / self.low, self.label)

    def sentence(self) -> str:
        """`Parquet is 3.1× faster than CSV (2.9–3.3×)`"""
        if not self.distinguishable:
            ends = f"{self.low:.2f}–{self.high:.2f}×"
            return f"no measurable difference between {self.of} and {self.over} ({ends})"
        ratio = self.at_least_one()
        ends = f"{ratio_text(ratio.low).removesuffix('×')}–{ratio_text(ratio.high)}"
        return f"{ratio.over} is {ratio_text(ratio.median)} faster than {ratio.of} ({ends})"

    def labelled_sentence(self) -> str:
        return f"{self.label}: {self.sentence()}" if self.label else self.sentence()


def ratio_of(
    name: str, seconds: Sequence[float], other: str, others: Sequence[float], label: str = ""
) -> Ratio:
    """The ratio of the times of two variants, round by round. Both sequences are in the order of the
    rounds."""
    ratios = np.array(seconds) / np.array(others)
    return Ratio(name, other, float(np.median(ratios)), *interval(ratios), label)


@dataclass(frozen=True, slots=True)
class Samples:
    """Seconds of one variant: of its first, cold run, and of each round after it. A sample is the mean of
    `repeats` runs; more than one if a single run is too short to be timed."""

    cold_seconds: float
    seconds: tuple[float, ...]
    repeats: int

    @property
    def median_seconds(self) -> float:
        return median(self.seconds)


def rotated(variants: Sequence[T], round_number: int) -> list[T]:
    """The variants in the order of this round: each round begins with another variant."""
    first = round_number % len(variants)
    return [*variants[first:], *variants[:first]]


class InterleavedTimer(Generic[T]):
    """Times several variants that compute the same answer, interleaved.

    `cold` runs each variant once and returns the answers to compare. Each call of `round` then adds a
    sample."""

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
        for name in rotated(list(self._variants), self._rounds):
            variant, repeats = self._variants[name], self._repeats[name]
            begin = perf_counter()
            for _ in range(repeats):
                variant()
            self._seconds[name].append((perf_counter() - begin) / repeats)
        self._rounds += 1

    @property
    def samples(self) -> dict[str, Samples]:
        return {
            name: Samples(self._cold[name], tuple(self._seconds[name]), self._repeats[name])
            for name in self._variants
        }

    @property
    def round_seconds(self) -> float:
        """Expected length of a round."""
        return sum(max(seconds, SAMPLE_SECONDS_MIN) for seconds in self._cold.values())
