"""Run a query and print its answer to stdout or a file, and engines and times to stderr (`runs.py`)."""

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

# Limit of a table on a terminal. Files and pipes get all rows.
TERMINAL_ROWS_MAX = 100


@dataclass(frozen=True, slots=True)
class Telling:
    """How to print the answer: the format (None: by file suffix or terminal), the file (None: stdout), the
    number of rows (None: all, or TERMINAL_ROWS_MAX), or a JSON report instead. `timing`: whether to print the
    time to stderr; `why`: whether to report what each engine read. `expanded` and `pager` apply to a table on
    a terminal. `limit_option`: the option that changes the limit, for the message."""

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
    """Run the question on the engines, over the newest epoch, an older one or current rows, and print the
    answer.

    Raises QueryRejected if an engine rejects the SQL, and TimedOut if one takes too long, even if others
    answer."""
    if telling.as_json and telling.file is not None:
        raise UsageError("--json prints a report and -o writes the answer; give one of them")
    if telling.as_json and telling.format_ is not None:
        raise UsageError("--json prints a report and --format is for the answer; give one of them")
    settled_format(telling.format_, telling.file)  # check the options before the query runs
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
    """The engines that `all` does not include here."""
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
    """Like `ask_and_tell`, with engines that are already open."""
    if epoch is not None:
        question = replace(question, files_sql=without_schemas(question.sql, epoch))
    with progress(f"querying {', '.join(engine.name for engine in engines)}"):
        asked = _asked(question, engines, epoch, rounds_max, timeout_seconds)
    if telling.as_json:
        touched = _why(asked, engines, epoch, timeout_seconds) if telling.why else {}
        say_json(report(asked, epoch, touched))
    else:
        _print_answer(asked, telling)
        if len(asked.runs) == 1:
            tell_run(asked, epoch, timing=telling.timing)
        else:
            from olap.why import bytes_touched

            tell_runs(asked, epoch, bytes_touched(asked, engines, epoch, timeout_seconds))
        if telling.why:
            from olap.why.telling import tell

            tell(asked, _why(asked, engines, epoch, timeout_seconds))
    _explain_empty_answer(asked, engines)
    if late := [run.refused for run in asked.runs if run.refused is not None and run.timed_out]:
        raise TimedOut("; ".join(late))
    if asked.refusals:
        from olap.refusal import sentence

        raise QueryRejected("; ".join(sentence(message) for message in asked.refusals.values()))


def _explain_empty_answer(asked: Asked, engines: "Sequence[Engine]") -> None:
    """For an empty answer, print which condition no row matches."""
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
    from olap.why import why  # imported late: needed with --why only

    return why(asked, engines, epoch, timeout_seconds)


def chosen(names: Sequence[str], without: Sequence[str] = ()) -> list[str]:
    """The engines of `--engine a,b` or `--engine a --engine b`; `all` is every engine except those in
    `without`. Raises UsageError for an unknown name."""
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
    """The report of `--json`: engines, times, the checksum of the answer, and what each engine read."""
    from olap.answer import checksum

    return {
        "question": asked.question.name or None,
        "sql": asked.question.sql,
        "parameters": dict(asked.question.parameters),
        "epoch": epoch.number if epoch else None,
        "token": epoch.token.snapshot if epoch else None,
        "rows": asked.answer.num_rows,
        "equal": True,  # of the engines that answered; different answers are an error
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
    message: str, question: "Question", engines: "Sequence[Engine]", epoch: "Epoch | None"
) -> QueryRejected:
    """The error with a hint, for main() to print. Prints the line and the caret before it."""
    from olap.refusal import drawing, hint, missing_table, sentence
    from olap.relations import relations

    if epoch is not None and (missing := missing_table(question.sql, epoch)):
        return QueryRejected(missing)
    if where := drawing(message, question.sql):
        note(where, verbatim=True)
    try:
        meant = hint(message, question.sql, lambda: relations(engines[0], epoch))
    except RidelakeError:  # the hint is optional
        meant = None
    return QueryRejected(f"{sentence(message)}: {meant}" if meant else sentence(message))


def _print_answer(asked: Asked, telling: Telling) -> None:
    format_ = settled_format(telling.format_, telling.file)
    on_terminal = format_ == "table" and telling.file is None and sys.stdout.isatty()
    rows_max = telling.limit if telling.limit is not None else (TERMINAL_ROWS_MAX if on_terminal else 0)
    rows = asked.answer.num_rows
    shown = asked.answer.slice(0, rows_max) if 0 < rows_max < rows else asked.answer
    deliver(shown, format_, telling.file, expanded=telling.expanded, pager=telling.pager)
    if shown.num_rows < rows and format_ != "none":
        note(f"note: the first {shown.num_rows:,} of {rows:,} rows; {telling.limit_option} 0 shows all")
