"""Two records of the same benchmarks: what became slower, what faster, and what nobody can tell.

A ratio is that of two medians, B's over A's. The two runs took their samples apart, so both are drawn anew
for its interval (percentile bootstrap). That alone would cry wolf: another hour, another temperature, and
every path is a few per cent slower. So a path is seen against the others of the same two runs:

    drift    the median ratio of all the other paths; it is divided out, and told
    spread   how far they lie around it beyond what their own samples explain: the noise between runs.
             It widens the interval of each path
    many     with forty paths, one in twenty is unlucky: what is told to have changed must have done so at a
             confidence that allows for all of them at once (Bonferroni)
    tails    a moment can hit one path and no other, as a disk that is flushed while files are written does.
             So what lies between runs has the tails of a Laplace distribution, and not those of a normal one

What slows every path alike is therefore called drift, not a regression: two runs cannot tell it from a
busier machine, and the comparison says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.sampling import CONFIDENCE, RESAMPLES

Verdict = Literal["regression", "improvement", "within threshold", "not distinguishable"]
Floats = NDArray[np.float64]

PERCENTILES = (50, 90, 99)
OTHERS_MIN = 4  # fewer say nothing of how runs differ
FALSE_ALARMS = 0.01  # of comparisons in which nothing has changed
FALSE_ALARMS_OF_TAILS = 0.1  # the same, were the tails as heavy as a Laplace distribution's
MEDIAN_OF_MEAN = 1.2533  # how much wider the median of normal noise spreads than its mean
SPREAD_OF_MAD = 1.4826  # median absolute deviation → standard deviation, of normal noise
LAPLACE_OF_DEVIATION = 1 / (SPREAD_OF_MAD * log(2))  # such a deviation → the scale of a Laplace distribution


@dataclass(frozen=True, slots=True)
class Path:
    """One variant of one benchmark, as two runs have timed it."""

    benchmark: str
    group: str
    variant: str
    before: Floats  # seconds, of A
    after: Floats  # seconds, of B

    @property
    def name(self) -> str:
        return f"{self.benchmark.rsplit('::', 1)[-1].removeprefix('bench_')}: {self.variant}"


@dataclass(frozen=True, slots=True)
class Change:
    """B's median over A's, the drift of all others divided out, with its interval; `percentiles` are B's
    over A's as they were measured."""

    path: Path
    ratio: float
    low: float
    high: float
    threshold: float
    stands_out: bool  # among all paths, not for itself alone
    percentiles: dict[int, float]

    @property
    def verdict(self) -> Verdict:
        """Beyond the threshold only if the whole interval is; within it only if the whole interval is."""
        if self.stands_out and self.low > 1 + self.threshold:
            return "regression"
        if self.stands_out and self.high < 1 / (1 + self.threshold):
            return "improvement"
        if self.low >= 1 / (1 + self.threshold) and self.high <= 1 + self.threshold:
            return "within threshold"
        return "not distinguishable"


@dataclass(frozen=True, slots=True)
class Drift:
    """How the two runs differ as a whole: the median ratio of `of` paths, and from which ratio to it on one
    would stand out, so far do they lie around it."""

    ratio: float
    of: int
    least_told: float


def changes_of(paths: Sequence[Path], threshold_of: Callable[[Path], float]) -> list[Change]:
    random = np.random.default_rng(len(paths))
    draws = np.array([_draws(path, random) for path in paths])  # a row for each path
    measured = np.array([_log_ratio(path) for path in paths])
    noise = np.array([row.std() for row in draws])
    tail = (1 - CONFIDENCE) / 2
    changes = []
    for index, path in enumerate(paths):
        others = np.arange(len(paths)) != index
        shift, own, usual, between = measured[index], draws[index], 0.0, 0.0
        if others.sum() >= OTHERS_MIN:
            between = _spread(measured[others], noise[others])
            own = own - np.median(draws[others], axis=0) + random.normal(0, between, RESAMPLES)
            shift = shift - np.median(measured[others])
            usual = _deviation(measured[others])
        low, high = np.exp(np.quantile(own, [tail, 1 - tail]))
        far = abs(shift) > _reach(len(paths), max(_noise(path), usual), between)
        told = {percent: _percentile_ratio(path, percent) for percent in PERCENTILES}
        changes.append(
            Change(path, float(np.exp(shift)), float(low), float(high), threshold_of(path), bool(far), told)
        )
    return changes


def _draws(path: Path, random: np.random.Generator) -> Floats:
    """Of the logarithm of the ratio of medians: both runs resampled, apart."""

    def medians(seconds: Floats) -> Floats:
        chosen = random.integers(0, len(seconds), (RESAMPLES, len(seconds)))
        found: Floats = np.median(seconds[chosen], axis=1)
        return found

    return np.log(medians(path.after)) - np.log(medians(path.before))


def _log_ratio(path: Path) -> float:
    return float(np.log(np.median(path.after)) - np.log(np.median(path.before)))


def _percentile_ratio(path: Path, percent: float) -> float:
    return float(np.percentile(path.after, percent) / np.percentile(path.before, percent))


def drift_of(paths: Sequence[Path]) -> Drift | None:
    if len(paths) <= OTHERS_MIN:
        return None
    measured = np.array([_log_ratio(path) for path in paths])
    noise = np.array([_noise(path) for path in paths])
    least = np.exp(_reach(len(paths), _deviation(measured), _spread(measured, noise)))
    return Drift(float(np.exp(np.median(measured))), len(paths), float(least))


def _reach(paths: int, usual: float, between: float) -> float:
    """How far from the others one of so many has to be: beyond what is normal, with the standard deviation
    `usual`, and beyond what befalls a single path between runs, of which `between` is the deviation."""
    each = max(1, paths)
    return max(
        NormalDist().inv_cdf(1 - FALSE_ALARMS / each / 2) * usual,
        log(each / FALSE_ALARMS_OF_TAILS) * between * LAPLACE_OF_DEVIATION,
    )


def _spread(measured: Floats, noise: Floats) -> float:
    """Between runs: what the paths' distances from their median have beyond their own noise."""
    return float(np.sqrt(max(0.0, _deviation(measured) ** 2 - np.median(noise) ** 2)))


def _deviation(values: Floats) -> float:
    """The standard deviation, by the median of the distances: what has really changed is no noise."""
    return float(SPREAD_OF_MAD * np.median(np.abs(values - np.median(values))))


def _noise(path: Path) -> float:
    """Of the logarithm of the ratio of medians, as for normal noise: steadier than a bootstrap of few."""
    parts = [
        MEDIAN_OF_MEAN * _deviation(np.log(seconds)) / np.sqrt(len(seconds))
        for seconds in (path.before, path.after)
    ]
    return float(np.hypot(*parts))
