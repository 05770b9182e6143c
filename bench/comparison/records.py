"""The paths that two records have in common, and the differences of the records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.comparison.changes import Change, Drift, Floats, Path, Verdict, changes_of, drift_of
from bench.record import Entry, Record
from ridelake.errors import BadInput, UsageError

SAMPLES_MIN = 3
SAME_MACHINE = ("processor", "cores", "system")


@dataclass(frozen=True, slots=True)
class Comparison:
    changes: list[Change]
    drift: Drift | None  # None: too few paths
    missing: list[str]  # sentences
    failed: list[str]
    warnings: list[str]

    def of(self, verdict: Verdict) -> list[Change]:
        return [change for change in self.changes if change.verdict == verdict]


def compare_records(
    before: Record, after: Record, threshold: float, groups: Mapping[str, float]
) -> Comparison:
    """`groups`: thresholds by a part of the name or group of a benchmark; the last match counts. Raises
    UsageError for records of different scales or a group without a match, BadInput for a damaged record."""
    if before.scale != after.scale:
        raise UsageError(
            f"cannot compare A (scale {before.scale}) with B (scale {after.scale}): they measured different "
            "work; run both at the same scale"
        )
    paths = paths_of(before, after)
    _check_groups(groups, [*before.figures, *after.figures])

    def threshold_of(path: Path) -> float:
        fitting = [own for words, own in groups.items() if words in path.benchmark or words in path.group]
        return fitting[-1] if fitting else threshold

    missing, failed = _left_out(before, after)
    return Comparison(
        changes_of(paths, threshold_of), drift_of(paths), missing, failed, _warnings(before, after)
    )


def paths_of(before: Record, after: Record) -> list[Path]:
    """The paths with enough samples in both records."""
    found = []
    others = {entry.name: entry for entry in after.figures}
    for entry in before.figures:
        old, new = _seconds(entry), _seconds(others.get(entry.name))
        found += [
            Path(entry.name, entry.group, variant, old[variant], new[variant])
            for variant in old
            if variant in new and min(len(old[variant]), len(new[variant])) >= SAMPLES_MIN
        ]
    return found


def _seconds(entry: Entry | None) -> dict[str, Floats]:
    samples = (entry.figure or {}).get("samples", {}) if entry else {}
    try:
        return {variant: np.array(one["seconds"], dtype=float) for variant, one in samples.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"the record is damaged ({type(error).__name__}: {error}): run `ridelake bench` again"
        ) from error


def _left_out(before: Record, after: Record) -> tuple[list[str], list[str]]:
    """Sentences on the paths that are missing, and on the benchmarks that failed in B."""
    old = {entry.name: entry for entry in before.figures}
    new = {entry.name: entry for entry in after.figures}
    missing = [f"{name}: not in B" for name in old if name not in new]
    missing += [f"{name}: not in A" for name in new if name not in old]
    failed = []
    for name in (name for name in old if name in new):
        if new[name].status == "failed":
            failed.append(f"{name}: failed in B ({new[name].why})")
        elif new[name].status == "skipped" and old[name].status == "measured":
            missing.append(f"{name}: skipped in B ({new[name].why})")
        elif old[name].status != "measured":
            missing.append(f"{name}: {old[name].status} in A ({old[name].why})")
        else:
            variants = _seconds(old[name]).keys() ^ _seconds(new[name]).keys()
            missing += [f"{name}: {variant} is in one record only" for variant in sorted(variants)]
    failed += [
        f"{name}: failed in B ({entry.why})"
        for name, entry in new.items()
        if name not in old and entry.status == "failed"
    ]
    return missing, failed


def _warnings(before: Record, after: Record) -> list[str]:
    """Differences of the machines, seeds and versions, and the warnings of both records."""
    properties = {
        **{name: (before.machine.get(name), after.machine.get(name)) for name in SAME_MACHINE},
        "seed": (before.seed, after.seed),
    }
    versions = [record.machine.get("versions", {}) for record in (before, after)]
    properties |= {
        f"version of {name}": (versions[0].get(name), versions[1].get(name)) for name in versions[0]
    }
    warnings = [
        f"{name}: {_known(a)} in A, {_known(b)} in B" for name, (a, b) in properties.items() if a != b
    ]
    warnings += [
        f"{name} is incomplete: its run was interrupted or is in progress"
        for name, one in zip("AB", (before, after), strict=True)
        if not one.finished_at
    ]
    return (
        warnings
        + [f"A: {warning}" for warning in before.warnings]
        + [f"B: {warning}" for warning in after.warnings]
    )


def _known(value: Any) -> str:
    return "unknown" if value is None else str(value)


def _check_groups(groups: Mapping[str, float], entries: Sequence[Entry]) -> None:
    for words in groups:
        if not any(words in entry.name or words in entry.group for entry in entries):
            raise UsageError(f"no benchmark matches --group {words}: use a part of its name or group")
