"""What two records have in common, and what not."""

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
    drift: Drift | None  # None: too few paths to know
    missing: list[str]  # in sentences
    failed: list[str]
    warnings: list[str]

    def of(self, verdict: Verdict) -> list[Change]:
        return [change for change in self.changes if change.verdict == verdict]


def compare_records(
    before: Record, after: Record, threshold: float, groups: Mapping[str, float]
) -> Comparison:
    """`groups` are thresholds of their own, by words in the name or group of a benchmark; the last that fits
    counts. Raises UsageError for records of different scales or a group that is in neither, BadInput for a
    damaged one."""
    if before.scale != after.scale:
        raise UsageError(
            f"A is of scale {before.scale} and B of {after.scale}: they measured different work; "
            "measure both at one scale"
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
    """Those that both have timed often enough to have a median."""
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
        raise BadInput(f"the record is damaged ({type(error).__name__}: {error}): measure again") from error


def _left_out(before: Record, after: Record) -> tuple[list[str], list[str]]:
    """What cannot be compared, and what has failed in B."""
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
            missing += [f"{name}: {variant} is in one of them only" for variant in sorted(variants)]
    failed += [
        f"{name}: failed in B ({entry.why})"
        for name, entry in new.items()
        if name not in old and entry.status == "failed"
    ]
    return missing, failed


def _warnings(before: Record, after: Record) -> list[str]:
    """Why not to believe the comparison."""
    told = {
        **{name: (before.machine.get(name), after.machine.get(name)) for name in SAME_MACHINE},
        "seed": (before.seed, after.seed),
    }
    versions = [record.machine.get("versions", {}) for record in (before, after)]
    told |= {f"version of {name}": (versions[0].get(name), versions[1].get(name)) for name in versions[0]}
    warnings = [f"{name}: {_told(a)} in A, {_told(b)} in B" for name, (a, b) in told.items() if a != b]
    warnings += [
        f"{name} is a part of a run"
        for name, one in zip("AB", (before, after), strict=True)
        if not one.finished_at
    ]
    return (
        warnings
        + [f"A: {warning}" for warning in before.warnings]
        + [f"B: {warning}" for warning in after.warnings]
    )


def _told(value: Any) -> str:
    return "unknown" if value is None else str(value)


def _check_groups(groups: Mapping[str, float], entries: Sequence[Entry]) -> None:
    for words in groups:
        if not any(words in entry.name or words in entry.group for entry in entries):
            raise UsageError(
                f"no benchmark is called like '{words}': give --group words of its name or group"
            )
