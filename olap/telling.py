"""How an answer is told: the answer alone on stdout or in a file; who gave it, on stderr (`runs.py`)."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lakehouse.engines import ENGINE_NAMES, has_ride_table, left_out_of_all, open_engines
from olap.ask import ROUNDS_MAX, Asked, Run, ask
from olap.comparison import AnswersDiffer
from olap.output import deliver, settled_format
from olap.pinned import pinned
from olap.relations import without_schemas
from olap.runs import tell_run, tell_runs
from ridelake.errors import NotReady, QueryRejected, RidelakeError, TimedOut, UsageError, did_you_mean
from ridelake.progress import progress
from ridelake.screen import note, say_json, say_table
from ridelake.settings import Settings

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from lakehouse.epoch import Epoch
    from olap.question import Question
    from olap.tables import Expanded
    from olap.why import Touched

# A table on a terminal is read by a person: more rows than this scroll away. Everybody else gets all.
TERMINAL_ROWS_MAX = 100


@dataclass(frozen=True, slots=True)
class Telling:
    """How the answer is wanted: in which format (None: what suits the place), in which file (None: stdout),
    how many rows of it (None: all, or what a terminal can show), or a report about it instead. `timing`:
    whether the remark on stderr says how long it took; `why`: whether to report what each engine read.
    `expanded` and `pager`: of a table on a terminal. `limit_option`: how the reader changes the limit."""

    format_: str | None = None
    file: str | None = None
    limit: int | None = None
    as_json: bool = False
    timing: bool = True
    why: bool = False
    expanded: "Expanded" = "auto"
    pager: bool = False
    limit_option: str = "--limit"


def ask_and_tell(
    settings: Settings,
    question: "Question",
    engines: Sequence[str],
    telling: Telling,
    *,
    repeat: bool,
    as_of: str | None = None,
    fresh: bool = False,
    timeout_seconds: float | None = None,
) -> None:
    """Ask the question of the engines and tell the answer: over the newest epoch, one of then, or as of now.

    Raises QueryRejected if an engine refuses the SQL, and TimedOut if one is not done in time, even where
    others answer."""
    if telling.as_json and telling.file is not None:
        raise UsageError("--json prints a report and -o writes the answer; give one of them")
    if telling.as_json and telling.format_ is not None:
        raise UsageError("--json prints a report and --format is for the answer; give one of them")
    settled_format(telling.format_, telling.file)  # a call that is off is told so before the work
    names = chosen(engines, without=unasked(settings, as_of))
    with ExitStack() as opened:
        epoch = opened.enter_context(pinned(settings, names, as_of=as_of, fresh=fresh))
        if question.name and epoch is not None and not has_ride_table(epoch):
            from olap.catalogue import without_ride_tables

            raise NotReady(f"question {question.name}: {without_ride_tables(epoch)}")
        with progress(f"opening {', '.join(names)}"):
            over = opened.enter_context(open_engines(names, settings, epoch))
        answer_and_tell(
            question,
            over,
            epoch,
            telling,
            rounds_max=ROUNDS_MAX if repeat else 1,
            timeout_seconds=timeout_seconds,
        )


def unasked(settings: Settings, as_of: str | None) -> list[str]:
    """The engines that `all` does not mean here."""
    return left_out_of_all(settings) + (["postgres"] if as_of is not None else [])


def answer_and_tell(
    question: "Question",
    engines: "Sequence[Engine]",
    epoch: "Epoch | None",
    telling: Telling,
    *,
    rounds_max: int = 1,
    timeout_seconds: float | None = None,
) -> None:
    """The same with engines that are open."""
    if epoch is not None:
        question = replace(question, files_sql=without_schemas(question.sql, epoch))
    with progress(f"querying {', '.join(engine.name for engine in engines)}"):
        asked = _asked(question, engines, epoch, rounds_max, timeout_seconds)
    if telling.as_json:
        touched = _why(asked, engines, epoch, timeout_seconds) if telling.why else {}
        say_json(report(asked, epoch, touched))
    else:
        _tell_answer(asked, telling)
        if len(asked.runs) == 1:
            tell_run(asked, epoch, timing=telling.timing)
        else:
            from olap.why import bytes_touched

            tell_runs(asked, epoch, bytes_touched(asked, engines, epoch, timeout_seconds))
        if telling.why:
            from olap.why.telling import tell

            tell(asked, _why(asked, engines, epoch, timeout_seconds))
    _explain_absence(asked, engines)
    if late := [run.refused for run in asked.runs if run.refused is not None and run.timed_out]:
        raise TimedOut("; ".join(late))
    if asked.refusals:
        from olap.refusal import sentence

        raise QueryRejected("; ".join(sentence(words) for words in asked.refusals.values()))


def _explain_absence(asked: Asked, engines: "Sequence[Engine]") -> None:
    """Say of an empty answer which condition no row meets."""
    if asked.answer.num_rows > 1 or " where " not in f" {' '.join(asked.question.sql.lower().split())} ":
        return
    from olap.absence import is_empty, remarks

    if is_empty(asked.answer):
        answered = {run.engine for run in asked.runs if run.answer is not None}
        engine = next(engine for engine in engines if engine.name in answered)
        for remark in remarks(asked.question, engine):
            note(f"note: {remark}")


def _why(
    asked: Asked, engines: "Sequence[Engine]", epoch: "Epoch | None", timeout_seconds: float | None
) -> "dict[str, Touched]":
    from olap.why import why  # only who asks for reasons loads what finds them

    return why(asked, engines, epoch, timeout_seconds)


def chosen(names: Sequence[str], without: Sequence[str] = ()) -> list[str]:
    """The engines of `--engine a,b` or `--engine a --engine b`; `all` is every one but those of `without`.
    Raises UsageError."""
    wanted = [name.strip().lower() for text in names for name in text.split(",")]
    for name in wanted:
        if name not in (*ENGINE_NAMES, "all"):
            meant = did_you_mean(name, (*ENGINE_NAMES, "all"))
            raise UsageError(
                f"there is no engine '{name}': {meant}choose from {', '.join(ENGINE_NAMES)}, or all"
            )
    if "all" in wanted:
        return [name for name in ENGINE_NAMES if name not in without or name in wanted]
    return list(dict.fromkeys(wanted))


def report(
    asked: Asked, epoch: "Epoch | None", touched: "Mapping[str, Touched] | None" = None
) -> dict[str, Any]:
    """The form of `--json`: who answered, how fast, and what the answer's checksum is; and why."""
    from olap.answer import checksum

    return {
        "question": asked.question.name or None,
        "sql": asked.question.sql,
        "parameters": dict(asked.question.parameters),
        "epoch": epoch.number if epoch else None,
        "token": epoch.token.snapshot if epoch else None,
        "rows": asked.answer.num_rows,
        "equal": True,  # of those that answered; answers that differ make no report
        "checksum": checksum(asked.answer, ordered=asked.question.ordered),
        "engines": [_run_report(run) | _reason(run.engine, touched or {}) for run in asked.runs],
    }


def _reason(engine: str, touched: "Mapping[str, Touched]") -> dict[str, Any]:
    if engine not in touched:
        return {}
    from olap.why.telling import sentence

    return {"why": sentence(touched[engine]), "touched": touched[engine].report()}


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


def _asked(
    question: "Question",
    engines: "Sequence[Engine]",
    epoch: "Epoch | None",
    rounds_max: int,
    timeout_seconds: float | None,
) -> Asked:
    try:
        return ask(question, engines, epoch, rounds_max=rounds_max, timeout_seconds=timeout_seconds)
    except QueryRejected as error:
        raise _refusal(str(error), question, engines, epoch) from error
    except AnswersDiffer as error:
        lines = [(name, rows, "✓" if name in error.trusted else "✗") for name, rows in error.rows.items()]
        say_table(("engine", "rows", "equal"), lines, on_stderr=True)
        raise


def _refusal(
    words: str, question: "Question", engines: "Sequence[Engine]", epoch: "Epoch | None"
) -> QueryRejected:
    """One sentence for main() to print, with a hint; the line and the caret are shown above it."""
    from olap.refusal import drawing, hint, missing_table, sentence
    from olap.relations import relations

    if epoch is not None and (missing := missing_table(question.sql, epoch)):
        return QueryRejected(missing)
    if where := drawing(words, question.sql):
        note(where, verbatim=True)
    try:
        meant = hint(words, question.sql, lambda: relations(engines[0], epoch))
    except RidelakeError:  # no hint, then
        meant = None
    return QueryRejected(f"{sentence(words)}: {meant}" if meant else sentence(words))


def _tell_answer(asked: Asked, telling: Telling) -> None:
    format_ = settled_format(telling.format_, telling.file)
    for_a_person = format_ == "table" and telling.file is None and sys.stdout.isatty()
    rows_max = telling.limit if telling.limit is not None else (TERMINAL_ROWS_MAX if for_a_person else 0)
    rows = asked.answer.num_rows
    shown = asked.answer.slice(0, rows_max) if 0 < rows_max < rows else asked.answer
    deliver(shown, format_, telling.file, expanded=telling.expanded, pager=telling.pager)
    if shown.num_rows < rows and format_ != "none":
        note(f"note: the first {shown.num_rows:,} of {rows:,} rows; {telling.limit_option} 0 shows all")
