"""How an answer is told: the answer alone on stdout; who gave it, and how fast, on stderr."""

import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from lakehouse.engines import ENGINE_NAMES, open_engine
from lakehouse.epoch import newest_epoch
from olap.answer import checksum
from olap.ask import ROUNDS_MAX, Asked, ask
from olap.formats import aligned, write
from ridelake.errors import QueryRejected, UsageError
from ridelake.screen import note, say_json
from ridelake.settings import Settings

if TYPE_CHECKING:
    from lakehouse.epoch import Epoch
    from olap.question import Question

# A table is read by a person: more rows than this scroll away. Programs (csv, json) get all.
TABLE_ROWS_MAX = 100


def ask_and_tell(
    settings: Settings,
    question: "Question",
    engines: Sequence[str],
    *,
    format_: str | None,
    limit: int | None,
    as_json: bool,
    repeat: bool,
) -> None:
    """Ask the question of the engines over the newest epoch and tell the answer."""
    names = chosen(engines)
    epoch = newest_epoch(settings.lake)
    with ExitStack() as opened:
        asked = ask(
            question,
            [opened.enter_context(open_engine(name, settings, epoch)) for name in names],
            epoch,
            rounds_max=ROUNDS_MAX if repeat else 1,
        )
    if as_json:
        say_json(report(asked, epoch))
    else:
        _tell(asked, epoch, format_, limit)
    if asked.refusals:
        refused = "; ".join(f"{engine}: {words.splitlines()[0]}" for engine, words in asked.refusals.items())
        raise QueryRejected(refused)


def chosen(names: Sequence[str]) -> list[str]:
    """The engines of `--engine a,b` or `--engine a --engine b`; `all` is every one. Raises UsageError."""
    asked_for = [name.strip() for text in names for name in text.split(",")]
    if "all" in asked_for:
        return list(ENGINE_NAMES)
    for name in asked_for:
        if name not in ENGINE_NAMES:
            raise UsageError(f"there is no engine '{name}': choose from {', '.join(ENGINE_NAMES)} or all")
    return list(dict.fromkeys(asked_for))


def report(asked: Asked, epoch: "Epoch") -> dict[str, Any]:
    """The form of `--json`: who answered, how fast, and what the answer's checksum is."""
    return {
        "question": asked.question.name or None,
        "sql": asked.question.sql,
        "epoch": epoch.number,
        "equal": True,  # a report of answers that differ is never made
        "rows": asked.answer.num_rows,
        "engines": [
            {
                "engine": run.engine,
                "version": run.version,
                "refused": run.refused,
                "seconds": round(run.usual_seconds, 6) if run.seconds else None,
                "first_seconds": round(run.first_seconds, 6) if run.seconds else None,
                "rounds": len(run.seconds),
                "rows": run.answer.num_rows if run.answer is not None else None,
                "checksum": checksum(run.answer, ordered=asked.question.ordered)
                if run.answer is not None
                else None,
            }
            for run in asked.runs
        ],
    }


def _tell(asked: Asked, epoch: "Epoch", format_: str | None, limit: int | None) -> None:
    terminal = sys.stdout.isatty()
    format_ = format_ or ("table" if terminal else "csv")
    rows_max = limit if limit is not None else (TABLE_ROWS_MAX if format_ == "table" else 0)
    rows = asked.answer.num_rows
    shown = asked.answer.slice(0, rows_max) if 0 < rows_max < rows else asked.answer
    write(shown, format_, sys.stdout, width=shutil.get_terminal_size().columns if terminal else None)
    sys.stdout.flush()
    if shown.num_rows < rows:
        note(f"note: the first {shown.num_rows:,} of {rows:,} rows; --limit 0 shows all")
    if len(asked.runs) == 1:
        (run,) = asked.runs
        counted = "1 row" if rows == 1 else f"{rows:,} rows"
        note(
            f"{counted} in {_seconds(run.usual_seconds)} s ({run.engine} {run.version}, epoch {epoch.number})"
        )
    else:
        _tell_runs(asked, epoch)


def _tell_runs(asked: Asked, epoch: "Epoch") -> None:
    columns = [
        ("engine", "", False),
        ("seconds", "", True),
        ("first", "", True),
        ("rows", "", True),
        ("equal", "", False),
    ]
    lines = [
        (
            f"{run.engine} {run.version}",
            _seconds(run.usual_seconds),
            _seconds(run.first_seconds),
            f"{rows:,}",
            "✓",
        )
        if run.answer is not None and (rows := run.answer.num_rows) >= 0
        else (f"{run.engine} {run.version}", "", "", "", "refused")
        for run in asked.runs
    ]
    note("\n".join(aligned(columns, lines)))
    warm = max(len(run.seconds) for run in asked.runs) - 1
    told = (
        f"seconds: median of {warm} interleaved runs after the first" if warm > 1 else "seconds: of one run"
    )
    note(f"{told}; epoch {epoch.number}, answers equal")


def _seconds(seconds: float) -> str:
    """Three significant digits at most: 0.00214, 0.0214, 0.214, 2.14, 21.4."""
    return f"{seconds:.3g}" if seconds >= 0.001 else f"{seconds:.2g}"
