"""Compare two records of the same benchmarks: what became slower, what faster, and what cannot be decided.

The unit of comparison is a variant of a benchmark. Its ratio is the median of B divided by the median of A.
Its interval is a percentile bootstrap that resamples both runs independently. Between runs all variants can
change by a few per cent, for example with the temperature. Each variant is therefore compared with the other
variants of the same two runs:

    drift          the median ratio of the other variants; it is divided out and reported
    spread         the deviation of the other variants from the drift, beyond the noise of their samples; it
                   widens the interval of each variant
    many variants  the confidence is corrected for the number of variants (Bonferroni)
    heavy tails    a short event, such as a flush of the disk, affects a single variant; differences between
                   runs are therefore assumed to follow a Laplace distribution, not a normal one

A change of all variants by the same factor is called drift, not a regression: two runs cannot distinguish it
from a busier machine.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.record import Entry, Record
from bench.statistics import CONFIDENCE, RESAMPLES, percentile
from ridelake.errors import BadInput, UsageError
from ridelake.text import duration

ChangeVerdict = Literal["regression", "improvement", "within threshold", "inconclusive"]
Floats = NDArray[np.float64]

PERCENTILES = (50, 90, 99)
OTHERS_MIN = 4  # minimum number of other variants to estimate the drift
FALSE_ALARMS = 0.01  # share of comparisons without a change, for a normal distribution
FALSE_ALARMS_OF_TAILS = 0.1  # the same for a Laplace distribution
MEDIAN_OF_MEAN = 1.2533  # standard error of the median ÷ that of the mean, for normal noise
SPREAD_OF_MAD = 1.4826  # median absolute deviation → standard deviation, for normal noise
LAPLACE_OF_DEVIATION = 1 / (SPREAD_OF_MAD * log(2))  # this deviation → scale of a Laplace distribution


@dataclass(frozen=True, slots=True)
class TimedVariant:
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

    path: TimedVariant
    ratio: float
    low: float
    high: float
    threshold: float
    significant: bool  # among all variants
    percentiles: dict[int, float]

    @property
    def verdict(self) -> ChangeVerdict:
        """A change is beyond or within the threshold only if its whole interval is."""
        if self.significant and self.low > 1 + self.threshold:
            return "regression"
        if self.significant and self.high < 1 / (1 + self.threshold):
            return "improvement"
        if self.low >= 1 / (1 + self.threshold) and self.high <= 1 + self.threshold:
            return "within threshold"
        return "inconclusive"


@dataclass(frozen=True, slots=True)
class Drift:
    """`ratio`: the median ratio of `of` variants. `least_detectable`: the smallest slowdown of a variant,
    relative to `ratio`, that is reported."""

    ratio: float
    of: int
    least_detectable: float


def changes_of(paths: Sequence[TimedVariant], threshold_of: Callable[[TimedVariant], float]) -> list[Change]:
    random = np.random.default_rng(len(paths))
    draws = np.array([_draws(path, random) for path in paths])  # a row for each variant
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
        percentiles = {
            percent: percentile(path.after, percent) / percentile(path.before, percent)
            for percent in PERCENTILES
        }
        ratio, threshold = float(np.exp(shift)), threshold_of(path)
        changes.append(Change(path, ratio, float(low), float(high), threshold, bool(far), percentiles))
    return changes


def _draws(path: TimedVariant, random: np.random.Generator) -> Floats:
    """Bootstrap samples of the logarithm of the ratio of medians; both runs are resampled independently."""

    def medians(seconds: Floats) -> Floats:
        chosen = random.integers(0, len(seconds), (RESAMPLES, len(seconds)))
        found: Floats = np.median(seconds[chosen], axis=1)
        return found

    return np.log(medians(path.after)) - np.log(medians(path.before))


def _log_ratio(path: TimedVariant) -> float:
    return float(np.log(np.median(path.after)) - np.log(np.median(path.before)))


def drift_of(paths: Sequence[TimedVariant]) -> Drift | None:
    if len(paths) <= OTHERS_MIN:
        return None
    measured = np.array([_log_ratio(path) for path in paths])
    noise = np.array([_noise(path) for path in paths])
    least = np.exp(_reach(len(paths), _deviation(measured), _spread(measured, noise)))
    return Drift(float(np.exp(np.median(measured))), len(paths), float(least))


def _reach(paths: int, usual: float, between: float) -> float:
    """The smallest distance from the drift that is significant among `paths` variants. `usual` is the
    standard deviation of a normal distribution, `between` that of the differences of single variants between
    runs."""
    each = max(1, paths)
    return max(
        NormalDist().inv_cdf(1 - FALSE_ALARMS / each / 2) * usual,
        log(each / FALSE_ALARMS_OF_TAILS) * between * LAPLACE_OF_DEVIATION,
    )


def _spread(measured: Floats, noise: Floats) -> float:
    """The standard deviation between runs: that of the variants, without the noise of their own samples."""
    return float(np.sqrt(max(0.0, _deviation(measured) ** 2 - np.median(noise) ** 2)))


def _deviation(values: Floats) -> float:
    """The standard deviation, from the median absolute deviation: real changes do not affect it."""
    return float(SPREAD_OF_MAD * np.median(np.abs(values - np.median(values))))


def _noise(path: TimedVariant) -> float:
    """Standard error of the logarithm of the ratio of medians for normal noise. With few samples it is more
    stable than a bootstrap."""
    parts = [
        MEDIAN_OF_MEAN * _deviation(np.log(seconds)) / np.sqrt(len(seconds))
        for seconds in (path.before, path.after)
    ]
    return float(np.hypot(*parts))


SAMPLES_MIN = 3


@dataclass(frozen=True, slots=True)
class RecordComparison:
    changes: list[Change]
    drift: Drift | None  # None: too few variants
    missing: list[str]  # sentences
    failed: list[str]
    warnings: list[str]

    def of(self, verdict: ChangeVerdict) -> list[Change]:
        return [change for change in self.changes if change.verdict == verdict]


def compare_records(
    before: Record, after: Record, threshold: float, groups: Mapping[str, float]
) -> RecordComparison:
    """`groups`: thresholds by a part of the name or group of a benchmark; the last match counts. Raises
    UsageError for records of different scales or a group without a match, BadInput for a damaged record."""
    if before.scale != after.scale:
        raise UsageError(
            f"cannot compare A (scale {before.scale}) with B (scale {after.scale}): they measured different "
            "work; run both at the same scale"
        )
    paths = common_variants(before, after)
    _check_groups(groups, [*before.figures, *after.figures])

    def threshold_of(path: TimedVariant) -> float:
        fitting = [own for words, own in groups.items() if words in path.benchmark or words in path.group]
        return fitting[-1] if fitting else threshold

    missing, failed = _left_out(before, after)
    return RecordComparison(
        changes_of(paths, threshold_of), drift_of(paths), missing, failed, _warnings(before, after)
    )


def common_variants(before: Record, after: Record) -> list[TimedVariant]:
    """The variants with enough samples in both records."""
    found = []
    others = {entry.name: entry for entry in after.figures}
    for entry in before.figures:
        old, new = _seconds(entry), _seconds(others.get(entry.name))
        found += [
            TimedVariant(entry.name, entry.group, variant, old[variant], new[variant])
            for variant in old
            if variant in new and min(len(old[variant]), len(new[variant])) >= SAMPLES_MIN
        ]
    return found


def _seconds(entry: Entry | None) -> dict[str, Floats]:
    samples = entry.figure.get("samples", {}) if entry else {}
    try:
        return {variant: np.array(one["seconds"], dtype=float) for variant, one in samples.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"the record is damaged ({type(error).__name__}: {error}): run `ridelake bench` again"
        ) from error


def _left_out(before: Record, after: Record) -> tuple[list[str], list[str]]:
    """Sentences on the variants that are missing, and on the benchmarks that failed in B."""
    old = {entry.name: entry for entry in before.figures}
    new = {entry.name: entry for entry in after.figures}
    failed = [f"{name}: failed in B ({one.why})" for name, one in new.items() if one.status == "failed"]
    missing = [f"{name}: not in B" for name in old if name not in new]
    missing += [f"{name}: not in A" for name in new if name not in old]
    for name, a, b in ((name, old[name], new[name]) for name in old if name in new):
        if b.status == "skipped" and a.status == "measured":
            missing.append(f"{name}: skipped in B ({b.why})")
        elif b.status != "failed" and a.status != "measured":
            missing.append(f"{name}: {a.status} in A ({a.why})")
        elif b.status == "measured":
            variants = _seconds(a).keys() ^ _seconds(b).keys()
            missing += [f"{name}: {variant} is in one record only" for variant in sorted(variants)]
    return missing, failed


def _warnings(before: Record, after: Record) -> list[str]:
    """Differences of the machines, seeds and versions, and the warnings of both records."""
    a, b = (_properties(record) for record in (before, after))
    warnings = [
        f"{name}: {a.get(name, 'unknown')} in A, {b.get(name, 'unknown')} in B"
        for name in a
        if a[name] != b.get(name)
    ]
    warnings += [
        f"{name} is incomplete: its run was interrupted or is in progress"
        for name, record in (("A", before), ("B", after))
        if not record.finished_at
    ]
    return [*warnings, *(f"A: {one}" for one in before.warnings), *(f"B: {one}" for one in after.warnings)]


def _properties(record: Record) -> dict[str, object]:
    machine = record.machine
    return {
        "processor": machine.processor,
        "cores": machine.cores,
        "system": machine.system,
        "seed": record.seed,
        **{f"version of {name}": version for name, version in machine.versions.items()},
    }


def _check_groups(groups: Mapping[str, float], entries: Sequence[Entry]) -> None:
    for words in groups:
        if not any(words in entry.name or words in entry.group for entry in entries):
            raise UsageError(f"no benchmark matches --group {words}: use a part of its name or group")


COLUMNS = ("benchmark: variant", "A", "B", "B/A", "95 % interval", "p90", "p99", "verdict")
SIGNS = {"regression": "✗", "improvement": "✓", "within threshold": "=", "inconclusive": "~"}
# Changes come first.
ORDER: tuple[ChangeVerdict, ...] = ("regression", "improvement", "within threshold", "inconclusive")


def rows(comparison: RecordComparison) -> list[list[str]]:
    """Rows of `COLUMNS`: medians as measured, B/A with the drift divided out, B/A of percentiles as
    measured."""
    ordered = sorted(comparison.changes, key=lambda change: (ORDER.index(change.verdict), -change.ratio))
    return [
        [
            change.path.name,
            duration(percentile(change.path.before, 50)),
            duration(percentile(change.path.after, 50)),
            f"{change.ratio:.2f}",
            f"{change.low:.2f}–{change.high:.2f}",
            f"{change.percentiles[90]:.2f}",
            f"{change.percentiles[99]:.2f}",
            f"{SIGNS[change.verdict]} {change.verdict}",
        ]
        for change in ordered
    ]


def summary(comparison: RecordComparison) -> str:
    """`1 regression, 3 within threshold, 20 inconclusive.`"""
    counts = [(len(comparison.of(verdict)), verdict) for verdict in ORDER]
    counts_text = [f"{count} {_plural(verdict, count)}" for count, verdict in counts if count]
    return f"{', '.join(counts_text) or 'nothing to compare'}."


def _plural(verdict: str, count: int) -> str:
    return f"{verdict}s" if count > 1 and verdict in ("regression", "improvement") else verdict


def remarks(comparison: RecordComparison) -> Iterator[str]:
    """Drift, failures, missing variants and warnings."""
    yield _drift_text(comparison.drift)
    yield from (f"failed: {sentence}" for sentence in comparison.failed)
    yield from (f"missing: {sentence}" for sentence in comparison.missing)
    yield from (f"warning: {sentence}" for sentence in comparison.warnings)


def _drift_text(drift: Drift | None) -> str:
    if drift is None:
        return (
            "drift between the runs: unknown (too few variants); a busier machine would look like a "
            "regression"
        )
    b = f"{drift.ratio:.2f}× slower" if drift.ratio >= 1 else f"{1 / drift.ratio:.2f}× faster"
    return (
        f"drift between the runs: B is {b} (median of {drift.of} variants); it is divided out of B/A. These "
        f"runs can show a slowdown of a single variant from {drift.least_detectable:.2f}×; a slowdown of all "
        "variants counts as drift"
    )


def markdown(comparison: RecordComparison) -> str:
    """A summary, a table of the changes, and a collapsed table of all variants."""
    lines = rows(comparison)
    changes = [line for line in lines if line[-1].endswith(("regression", "improvement"))]
    parts = [f"**{summary(comparison)}**", ""]
    parts += [*_table(changes), ""] if changes else []
    parts += [f"- {_cell(remark)}" for remark in remarks(comparison)]
    parts += ["", f"<details><summary>All {len(lines)}</summary>", "", *_table(lines), "", "</details>"]
    return "\n".join(parts)


def _table(lines: list[list[str]]) -> list[str]:
    head = [f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) - 2)}---|"]
    return [*head, *(f"| {' | '.join(map(_cell, line))} |" for line in lines)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def as_json(comparison: RecordComparison) -> dict[str, Any]:
    """Seconds are medians. The drift is divided out of `ratio`, `low` and `high`."""
    drift = comparison.drift
    return {
        "drift": drift
        and {"ratio": drift.ratio, "variants": drift.of, "least_detectable": drift.least_detectable},
        "changes": [
            {
                "benchmark": change.path.benchmark,
                "variant": change.path.variant,
                "verdict": change.verdict,
                "ratio": change.ratio,
                "low": change.low,
                "high": change.high,
                "threshold": change.threshold,
                "a_seconds": percentile(change.path.before, 50),
                "b_seconds": percentile(change.path.after, 50),
                "measured": {f"p{percent}": ratio for percent, ratio in change.percentiles.items()},
            }
            for change in comparison.changes
        ],
        "failed": comparison.failed,
        "missing": comparison.missing,
        "warnings": comparison.warnings,
    }
