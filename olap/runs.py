"""Print engines, times and rows to stderr."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lakehouse.engines import full_version
from olap.ask import Asked, Run
from ridelake.screen import note, say_table

if TYPE_CHECKING:
    from lakehouse.epoch import Epoch


def tell_run(asked: Asked, epoch: "Epoch | None", *, timing: bool) -> None:
    """One line for one engine."""
    (run,) = asked.runs
    rows = asked.answer.num_rows
    counted = "1 row" if rows == 1 else f"{rows:,} rows"
    took = f" in {_seconds(run.usual_seconds)} s" if timing else ""
    state = "the rows as of now" if run.engine == "postgres" or epoch is None else f"epoch {epoch.number}"
    note(f"{counted}{took} ({run.engine} {full_version(run.engine, run.version)}, {state})")


def tell_runs(asked: Asked, epoch: "Epoch | None", bytes_touched: Mapping[str, int]) -> None:
    """A table for several engines. `bytes_touched`: by engine, where it was measured."""
    heads = ("engine", "seconds", "first", "rows", "bytes", "equal")
    say_table(heads, [_run_line(run, bytes_touched.get(run.engine)) for run in asked.runs], on_stderr=True)
    warm = max(len(run.seconds) for run in asked.runs) - 1
    how = f"median of {warm} interleaved runs after the first" if warm > 1 else "one run after the first"
    lake = f"epoch {epoch.number}; " if epoch else ""
    note(
        f"{lake}answers compared first; seconds: {how if warm else 'the first and only run'}; "
        "bytes: read in one more run"
    )


def _run_line(run: Run, bytes_touched: int | None) -> tuple[str, ...]:
    engine = f"{run.engine} {full_version(run.engine, run.version)}"
    if run.answer is None:
        return (engine, "", "", "", "", "timed out" if run.timed_out else "refused")
    rows, size = f"{run.answer.num_rows:,}", "–" if bytes_touched is None else f"{bytes_touched:,}"
    return (engine, _seconds(run.usual_seconds), _seconds(run.first_seconds), rows, size, "✓")


def _seconds(seconds: float) -> str:
    """Three significant digits: 0.00214, 0.0214, 0.214, 2.14, 21.4."""
    digits = next((digits for digits in range(5) if seconds >= 10 ** (2 - digits)), 5)
    return f"{seconds:.{digits}f}"
