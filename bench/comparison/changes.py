"""Statistics of a comparison of two records: regressions, improvements, drift.

A path is one variant of one benchmark. Its ratio is the median of B divided by the median of A. Its interval
is a percentile bootstrap that resamples both runs independently. Between runs all paths can change by a few
per cent, for example with the temperature. Each path is therefore compared with the other paths of the same
two runs:

    drift         the median ratio of the other paths; it is divided out and reported
    spread        the deviation of the other paths from the drift, beyond the noise of their samples; it
                  widens the interval of each path
    many paths    the confidence is corrected for the number of paths (Bonferroni)
    heavy tails   a short event, such as a flush of the disk, affects a single path; differences between
                  runs are therefore assumed to follow a Laplace distribution, not a normal one

A change of all paths by the same factor is called drift, not a regression: two runs cannot distinguish it
from a busier machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.sampling import CONFIDENCE, RESAMPLES

Verdict = Literal["regression", "improvement", "within threshold", "inconclusive"]
Floats = NDArray[np.float64]

PERCENTILES = (50, 90, 99)
OTHERS_MIN = 4  # minimum number of other paths to estimate the drift
FALSE_ALARMS = 0.01  # share of comparisons without a change, for a normal distribution
FALSE_ALARMS_OF_TAILS = 0.1  # the same for a Laplace distribution
MEDIAN_OF_MEAN = 1.2533  # standard error of the median ÷ that of the mean, for normal noise
SPREAD_OF_MAD = 1.4826  # median absolute deviation → standard deviation, for normal noise
LAPLACE_OF_DEVIATION = 1 / (SPREAD_OF_MAD * log(2))  # this deviation → scale of a Laplace distribution


@dataclass(frozen=True, slots=True)
class Path:
    """One variant of one benchmark, with its samples of both runs."""

    benchmark: str
    group: str
    variant: str
    before: Floats  # seconds of A
    after: Floats  # seconds of B

    @property
    def name(self) -> str:
        return f"{self.benchmark.rsplit('::', 1)[-1].removeprefix('bench_')}: {self.variant}"


@dataclass(frozen=True, slots=True)
class Change:
    """`ratio`: the median of B divided by that of A, with the drift divided out; `low` and `high` are its
    interval. `percentiles`: the percentiles of B divided by those of A, as measured."""

    path: Path
    ratio: float
    low: float
    high: float
    threshold: float
    stands_out: bool  # significant among all paths
    percentiles: dict[int, float]

    @property
    def verdict(self) -> Verdict:
        """A change is beyond or within the threshold only if its whole interval is."""
        if self.stands_out and self.low > 1 + self.threshold:
            return "regression"
        if self.stands_out and self.high < 1 / (1 + self.threshold):
            return "improvement"
        if self.low >= 1 / (1 + self.threshold) and self.high <= 1 + self.threshold:
            return "within threshold"
        return "inconclusive"


@dataclass(frozen=True, slots=True)
class Drift:
    """`ratio`: the median ratio of `of` paths. `least_detectable`: the smallest slowdown of a path, relative
    to `ratio`, that is reported."""

    ratio: float
    of: int
    least_detectable: float


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
        percentiles = {percent: _percentile_ratio(path, percent) for percent in PERCENTILES}
        changes.append(
            Change(
                path,
                float(np.exp(shift)),
                float(low),
                float(high),
                threshold_of(path),
                bool(far),
                percentiles,
            )
        )
    return changes


def _draws(path: Path, random: np.random.Generator) -> Floats:
    """Bootstrap samples of the logarithm of the ratio of medians; both runs are resampled independently."""

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
    """The smallest distance from the drift that is significant among `paths` paths. `usual` is the standard
    deviation of a normal distribution, `between` that of the differences of single paths between runs."""
    each = max(1, paths)
    return max(
        NormalDist().inv_cdf(1 - FALSE_ALARMS / each / 2) * usual,
        log(each / FALSE_ALARMS_OF_TAILS) * between * LAPLACE_OF_DEVIATION,
    )


def _spread(measured: Floats, noise: Floats) -> float:
    """The standard deviation between runs: that of the paths, without the noise of their own samples."""
    return float(np.sqrt(max(0.0, _deviation(measured) ** 2 - np.median(noise) ** 2)))


def _deviation(values: Floats) -> float:
    """The standard deviation, from the median absolute deviation: real changes do not affect it."""
    return float(SPREAD_OF_MAD * np.median(np.abs(values - np.median(values))))


def _noise(path: Path) -> float:
    """Standard error of the logarithm of the ratio of medians for normal noise. With few samples it is more
    stable than a bootstrap."""
    parts = [
        MEDIAN_OF_MEAN * _deviation(np.log(seconds)) / np.sqrt(len(seconds))
        for seconds in (path.before, path.after)
    ]
    return float(np.hypot(*parts))
