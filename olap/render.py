"""Show an answer: the answer alone on stdout or in a file; engine, time and epoch on stderr."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lakehouse.engines import ENGINE_NAMES, full_version, has_ride_table, omitted_from_all, open_engines
from olap.answer import AnswersDiffer
from olap.ask import ROUNDS_MAX, AskResult, EngineRun, ask
from olap.epoch_choice import open_query_epoch
from olap.output import choose_format, write_answer
from olap.relations import without_schemas
from ridelake.errors import NotReady, QueryRejected, RidelakeError, TimedOut, UsageError, did_you_mean
from ridelake.progress import progress
from ridelake.screen import note, say_json, say_table
from ridelake.settings import Settings
from ridelake.text import counted, digits

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from lakehouse.table.epoch import Epoch
    from olap.explain.scans import ScanStats
    from olap.formats import Expanded
    from olap.question import Question


def print_run(asked: AskResult, epoch: "Epoch | None", *, timing: bool) -> None:
    """One line for one engine."""
    (run,) = asked.runs
    rows = counted(asked.answer.num_rows, "row")
    took = f" in {digits(run.usual_seconds, zeros=True)} s" if timing else ""
    state = "the rows as of now" if run.engine == "postgres" or epoch is None else f"epoch {epoch.number}"
    note(f"{rows}{took} ({run.engine} {full_version(run.engine, run.version)}, {state})")


def print_runs(asked: AskResult, epoch: "Epoch | None", bytes_touched: Mapping[str, int]) -> None:
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


def _run_line(run: EngineRun, bytes_touched: int | None) -> tuple[str, ...]:
    engine = f"{run.engine} {full_version(run.engine, run.version)}"
    if run.answer is None:
        return (engine, "", "", "", "", "timed out" if run.timed_out else "refused")
    rows, size = f"{run.answer.num_rows:,}", "–" if bytes_touched is None else f"{bytes_touched:,}"
    seconds = [digits(value, zeros=True) for value in (run.usual_seconds, run.first_seconds)]
    return (engine, *seconds, rows, size, "✓")


# Limit of a table on a terminal. Files and pipes get all rows.
TERMINAL_ROWS_MAX = 100


@dataclass(frozen=True, slots=True)
class OutputOptions:
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


def ask_and_print(
    settings: Settings,
    question: "Question",
    engines: Sequence[str],
    telling: OutputOptions,
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
    choose_format(telling.format_, telling.file)  # check the options before the query runs
    names = parse_engines(engines, without=engines_left_out(settings, as_of))
    with ExitStack() as opened:
        epoch = opened.enter_context(open_query_epoch(settings, names, as_of=as_of, fresh=fresh))
        if question.name and epoch is not None and not has_ride_table(epoch):
            from olap.catalogue import missing_ride_tables_message

            raise NotReady(f"question {question.name}: {missing_ride_tables_message(epoch)}")
        with progress(f"opening {', '.join(names)}"):
            over = opened.enter_context(open_engines(names, settings, epoch))
        answer_and_print(
            question,
            over,
            epoch,
            telling,
            rounds_max=ROUNDS_MAX if repeat else 1,
            timeout_seconds=timeout_seconds,
        )


def engines_left_out(settings: Settings, as_of: str | None) -> list[str]:
    """The engines that `all` does not include here."""
    return omitted_from_all(settings) + (["postgres"] if as_of is not None else [])


def answer_and_print(
    question: "Question",
    engines: "Sequence[Engine]",
    epoch: "Epoch | None",
    telling: OutputOptions,
    *,
    rounds_max: int = 1,
    timeout_seconds: float | None = None,
) -> None:
    """Like `ask_and_print`, with engines that are already open."""
    if epoch is not None:
        question = replace(question, files_sql=without_schemas(question.sql, epoch))
    with progress(f"querying {', '.join(engine.name for engine in engines)}"):
        asked = _asked(question, engines, epoch, rounds_max, timeout_seconds)
    if telling.as_json:
        touched = _why(asked, engines, epoch, timeout_seconds) if telling.why else {}
        say_json(run_report(asked, epoch, touched))
    else:
        _print_answer(asked, telling)
        if len(asked.runs) == 1:
            print_run(asked, epoch, timing=telling.timing)
        else:
            from olap.explain import bytes_touched

            print_runs(asked, epoch, bytes_touched(asked, engines, epoch, timeout_seconds))
        if telling.why:
            from olap.explain.report import print_reasons

            print_reasons(asked, _why(asked, engines, epoch, timeout_seconds))
    _explain_empty_answer(asked, engines)
    if late := [run.refused for run in asked.runs if run.refused is not None and run.timed_out]:
        raise TimedOut("; ".join(late))
    if asked.refusals:
        from olap.error_hints import error_sentence

        raise QueryRejected("; ".join(error_sentence(message) for message in asked.refusals.values()))


def _explain_empty_answer(asked: AskResult, engines: "Sequence[Engine]") -> None:
    """For an empty answer, print which condition no row matches."""
    if asked.answer.num_rows > 1 or " where " not in f" {' '.join(asked.question.sql.lower().split())} ":
        return
    from olap.error_hints import empty_answer_hints, is_empty

    if is_empty(asked.answer):
        answered = {run.engine for run in asked.runs if run.answer is not None}
        engine = next(engine for engine in engines if engine.name in answered)
        for remark in empty_answer_hints(asked.question, engine):
            note(f"note: {remark}")


def _why(
    asked: AskResult, engines: "Sequence[Engine]", epoch: "Epoch | None", timeout_seconds: float | None
) -> "dict[str, ScanStats]":
    from olap.explain import explain_answers  # imported late: needed with --why only

    return explain_answers(asked, engines, epoch, timeout_seconds)


def parse_engines(names: Sequence[str], without: Sequence[str] = ()) -> list[str]:
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


def run_report(
    asked: AskResult, epoch: "Epoch | None", touched: "Mapping[str, ScanStats] | None" = None
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


def _reason(engine: str, touched: "Mapping[str, ScanStats]") -> dict[str, Any]:
    if engine not in touched:
        return {}
    from olap.explain.report import reason_sentence

    return {"why": reason_sentence(touched[engine]), "touched": touched[engine].report()}


def _run_report(run: EngineRun) -> dict[str, Any]:
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
) -> AskResult:
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
    from olap.error_hints import error_hint, error_position, error_sentence, missing_table
    from olap.relations import relations

    if epoch is not None and (missing := missing_table(question.sql, epoch)):
        return QueryRejected(missing)
    if where := error_position(message, question.sql):
        note(where, verbatim=True)
    try:
        meant = error_hint(message, question.sql, lambda: relations(engines[0], epoch))
    except RidelakeError:  # the hint is optional
        meant = None
    return QueryRejected(f"{error_sentence(message)}: {meant}" if meant else error_sentence(message))


def _print_answer(asked: AskResult, telling: OutputOptions) -> None:
    format_ = choose_format(telling.format_, telling.file)
    on_terminal = format_ == "table" and telling.file is None and sys.stdout.isatty()
    rows_max = telling.limit if telling.limit is not None else (TERMINAL_ROWS_MAX if on_terminal else 0)
    rows = asked.answer.num_rows
    shown = asked.answer.slice(0, rows_max) if 0 < rows_max < rows else asked.answer
    write_answer(shown, format_, telling.file, expanded=telling.expanded, pager=telling.pager)
    if shown.num_rows < rows and format_ != "none":
        note(f"note: the first {shown.num_rows:,} of {rows:,} rows; {telling.limit_option} 0 shows all")
