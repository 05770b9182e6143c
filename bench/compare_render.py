"""A comparison as a table, as Markdown for a pull request, and as JSON."""

from collections.abc import Iterator
from typing import Any

from bench.compare import Change, Drift, RecordComparison
from bench.report.quantities import percentile, seconds_text

COLUMNS = ("benchmark: variant", "A", "B", "B/A", "95 % interval", "p90", "p99", "verdict")
SIGNS = {"regression": "✗", "improvement": "✓", "within threshold": "=", "inconclusive": "~"}
# Changes come first.
ORDER = tuple(SIGNS)


def rows(comparison: RecordComparison) -> list[list[str]]:
    """Rows of `COLUMNS`: medians as measured, B/A with the drift divided out, B/A of percentiles as
    measured."""
    ordered = sorted(comparison.changes, key=lambda change: (ORDER.index(change.verdict), -change.ratio))
    return [_row(change) for change in ordered]


def _row(change: Change) -> list[str]:
    before, after = (percentile(list(one), 50) for one in (change.path.before, change.path.after))
    return [
        change.path.name,
        seconds_text(before),
        seconds_text(after),
        f"{change.ratio:.2f}",
        f"{change.low:.2f}–{change.high:.2f}",
        f"{change.percentiles[90]:.2f}",
        f"{change.percentiles[99]:.2f}",
        f"{SIGNS[change.verdict]} {change.verdict}",
    ]


def summary(comparison: RecordComparison) -> str:
    """`1 regression, 3 within threshold, 20 inconclusive.`"""
    counts = [(len(comparison.of(verdict)), verdict) for verdict in ORDER]  # type: ignore[arg-type]
    counts_text = [f"{count} {_plural(verdict, count)}" for count, verdict in counts if count]
    return f"{', '.join(counts_text) or 'nothing to compare'}."


def _plural(verdict: str, count: int) -> str:
    return f"{verdict}s" if count > 1 and verdict in ("regression", "improvement") else verdict


def remarks(comparison: RecordComparison) -> Iterator[str]:
    """Drift, failures, missing paths and warnings."""
    yield _drift_text(comparison.drift)
    yield from (f"failed: {sentence}" for sentence in comparison.failed)
    yield from (f"missing: {sentence}" for sentence in comparison.missing)
    yield from (f"warning: {sentence}" for sentence in comparison.warnings)


def _drift_text(drift: Drift | None) -> str:
    if drift is None:
        return (
            "drift between the runs: unknown (too few paths); a busier machine would look like a regression"
        )
    return (
        f"drift between the runs: {_drift_size(drift.ratio)} (median of {drift.of} paths); it is divided out "
        f"of B/A. These runs can show a slowdown of a single path from {drift.least_detectable:.2f}×; a "
        "slowdown of all paths counts as drift"
    )


def _drift_size(ratio: float) -> str:
    """`B is 1.30× slower`"""
    return f"B is {ratio:.2f}× slower" if ratio >= 1 else f"B is {1 / ratio:.2f}× faster"


def markdown(comparison: RecordComparison) -> str:
    """A summary, a table of the changes, and a collapsed table of all paths."""
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
        "drift": _drift(drift) if drift else None,
        "changes": [_change(change) for change in comparison.changes],
        "failed": comparison.failed,
        "missing": comparison.missing,
        "warnings": comparison.warnings,
    }


def _drift(drift: Drift) -> dict[str, float]:
    return {"ratio": drift.ratio, "paths": drift.of, "least_detectable": drift.least_detectable}


def _change(change: Change) -> dict[str, Any]:
    return {
        "benchmark": change.path.benchmark,
        "variant": change.path.variant,
        "verdict": change.verdict,
        "ratio": change.ratio,
        "low": change.low,
        "high": change.high,
        "threshold": change.threshold,
        "a_seconds": percentile(list(change.path.before), 50),
        "b_seconds": percentile(list(change.path.after), 50),
        "measured": {f"p{percent}": ratio for percent, ratio in change.percentiles.items()},
    }
