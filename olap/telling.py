"""How an answer is told: the answer alone on stdout; who gave it, and how fast, on stderr."""

import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from lakehouse.engines import ENGINE_NAMES, open_engine
from lakehouse.epoch import newest_epoch
from olap.answer import checksum
from olap.ask import ROUNDS_MAX, Asked, Run, ask
from olap.formats import aligned, write
from ridelake.errors import NotReady, QueryRejected, UsageError
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
    """Ask the question of the engines over the newest epoch and tell the answer.

    Raises QueryRejected if an engine refuses the SQL, even where others answer."""
    names = chosen(engines)
    epoch = _epoch_for(names, settings)
    with ExitStack() as opened:
        asked = _asked(
            question,
            [opened.enter_context(open_engine(name, settings, epoch)) for name in names],
            epoch,
            ROUNDS_MAX if repeat else 1,
        )
    if as_json:
        say_json(report(asked, epoch))
    else:
        _tell(asked, epoch, format_, limit)
    if asked.refusals:
        raise QueryRejected("; ".join(_sentence(words) for words in asked.refusals.values()))


def chosen(names: Sequence[str]) -> list[str]:
    """The engines of `--engine a,b` or `--engine a --engine b`; `all` is every one. Raises UsageError."""
    wanted = [name.strip().lower() for text in names for name in text.split(",")]
    if "all" in wanted:
        return list(ENGINE_NAMES)
    for name in wanted:
        if name not in ENGINE_NAMES:
            raise UsageError(f"there is no engine '{name}': choose from {', '.join(ENGINE_NAMES)} or all")
    return list(dict.fromkeys(wanted))


def report(asked: Asked, epoch: "Epoch | None") -> dict[str, Any]:
    """The form of `--json`: who answered, how fast, and what the answer's checksum is."""
    return {
        "question": asked.question.name or None,
        "sql": asked.question.sql,
        "epoch": epoch.number if epoch else None,
        "rows": asked.answer.num_rows,
        "equal": True,  # of those that answered; answers that differ make no report
        "checksum": checksum(asked.answer, ordered=asked.question.ordered),
        "engines": [_run_report(run) for run in asked.runs],
    }


def _run_report(run: Run) -> dict[str, Any]:
    if run.answer is None:
        return {"engine": run.engine, "version": run.version, "refused": run.refused}
    return {
        "engine": run.engine,
        "version": run.version,
        "seconds": round(run.usual_seconds, 6),
        "first_seconds": round(run.first_seconds, 6),
        "rounds": len(run.seconds),
        "rows": run.answer.num_rows,
    }


def _epoch_for(names: Sequence[str], settings: Settings) -> "Epoch | None":
    """The newest epoch. Postgres alone needs none: it answers from its rows."""
    try:
        return newest_epoch(settings.lake)
    except NotReady:
        if names == ["postgres"]:
            return None
        raise


def _asked(question: "Question", engines: Sequence[Any], epoch: "Epoch | None", rounds_max: int) -> Asked:
    try:
        return ask(question, engines, epoch, rounds_max=rounds_max)
    except QueryRejected as error:
        where = _where(str(error))
        if where:
            note(where)  # line and caret, above the sentence that main() prints
        raise QueryRejected(_sentence(str(error))) from error


def _sentence(words: str) -> str:
    """What the engine says is wrong, without its drawing of where: up to `LINE 1:` or an empty line."""
    lines = words.splitlines()
    end = next((n for n, line in enumerate(lines) if not line.strip() or line.startswith("LINE ")), None)
    return " ".join(lines[:end])


def _where(words: str) -> str:
    """`LINE 1: …` and the caret below it, if the engine drew them."""
    lines = words.splitlines()
    begin = next((n for n, line in enumerate(lines) if line.startswith("LINE ")), len(lines))
    return "\n".join(lines[begin:])


def _tell(asked: Asked, epoch: "Epoch | None", format_: str | None, limit: int | None) -> None:
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
        state = "the rows as of now" if run.engine == "postgres" or epoch is None else f"epoch {epoch.number}"
        note(f"{counted} in {_seconds(run.usual_seconds)} s ({run.engine} {run.version}, {state})")
    else:
        _tell_runs(asked, epoch)


def _tell_runs(asked: Asked, epoch: "Epoch | None") -> None:
    heads = (("engine", False), ("seconds", True), ("first", True), ("rows", True), ("equal", False))
    columns = [(name, "", to_right) for name, to_right in heads]
    note("\n".join(aligned(columns, [_run_line(run) for run in asked.runs])))
    warm = max(len(run.seconds) for run in asked.runs) - 1
    how = f"median of {warm} interleaved runs after the first" if warm > 1 else "one run after the first"
    lake = f"epoch {epoch.number}; " if epoch else ""
    note(f"{lake}answers compared first; seconds: {how if warm else 'the first and only run'}")


def _run_line(run: Run) -> tuple[str, ...]:
    who = f"{run.engine} {run.version}"
    if run.answer is None:
        return (who, "", "", "", "refused")
    rows = f"{run.answer.num_rows:,}"
    return (who, _seconds(run.usual_seconds), _seconds(run.first_seconds), rows, "✓")


def _seconds(seconds: float) -> str:
    """Three significant digits: 0.00214, 0.0214, 0.214, 2.14, 21.4."""
    digits = next((digits for digits in range(5) if seconds >= 10 ** (2 - digits)), 5)
    return f"{seconds:.{digits}f}"
