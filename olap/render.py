"""Print an answer: only the answer on stdout or in a file; engine, time and epoch on stderr."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from lakehouse.engines import full_version, has_ride_table, open_engines
from olap.answer import AnswersDiffer, checksum
from olap.ask import ROUNDS_MAX, AskResult, EngineRun
from olap.options import QueryOptions
from olap.output import choose_format, write_answer
from olap.query import run_query
from olap.query_epoch import missing_ride_tables_message, note_missing_unions, open_query_epoch
from ridelake.errors import NotReady, QueryRejected, TimedOut, UsageError
from ridelake.progress import progress
from ridelake.screen import note, say_json, say_table
from ridelake.settings import Settings
from ridelake.text import counted, digits

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from lakehouse.table.epoch import Epoch
    from olap.explain.scans import ScanStats
    from olap.question import Question

TERMINAL_ROWS_MAX = 100  # rows of a table on a terminal; files and pipes get all rows


def ask_and_print(
    settings: Settings, question: "Question", options: QueryOptions, *, repeat: bool = False
) -> None:
    """Run the question and print the answer. Several engines run in rounds, to be timed; `repeat`: one engine
    also does.

    Raises QueryRejected if an engine rejects the SQL, and TimedOut if one takes too long, even if others
    answer."""
    for other, given in (("-o", options.file), ("--format", options.format_)):
        if options.as_json and given is not None:
            raise UsageError(f"--json prints a report and {other} is for the answer; give one of them")
    choose_format(options.format_, options.file)  # check the options before the query runs
    names = options.engine_names(settings)
    with ExitStack() as opened:
        epoch = opened.enter_context(
            open_query_epoch(settings, names, as_of=options.as_of, fresh=options.fresh, source=options.source)
        )
        names = files_only(names, epoch, options)
        if question.name and epoch is not None and not has_ride_table(epoch):
            raise NotReady(f"question {question.name}: {missing_ride_tables_message(epoch)}")
        with progress(f"opening {', '.join(names)}"):
            engines = opened.enter_context(open_engines(names, settings, epoch))
        note_missing_unions(settings, epoch, question.sql)
        answer_and_print(question, engines, epoch, options, repeat=repeat)


def files_only(names: list[str], epoch: "Epoch | None", options: QueryOptions) -> list[str]:
    """The engines. If the epoch has several stores, `all` does not include Postgres, which reads one."""
    is_union = epoch is not None and bool(epoch.stores)
    named = [name.strip() for text in options.engines for name in text.lower().split(",")]
    omitted = "postgres" if is_union and "all" in named and "postgres" not in named else None
    return [name for name in names if name != omitted]


def answer_and_print(
    question: "Question",
    engines: "Sequence[Engine]",
    epoch: "Epoch | None",
    options: QueryOptions,
    *,
    repeat: bool = False,
) -> None:
    """Like `ask_and_print`, with engines that are already open."""
    rounds_max = ROUNDS_MAX if repeat or len(engines) > 1 else 1
    with progress(f"querying {', '.join(engine.name for engine in engines)}"):
        asked = _asked(question, engines, epoch, rounds_max, options.timeout_seconds)
    if not options.as_json:
        _print_answer(asked, options)
        if len(asked.runs) == 1:
            print_run(asked, epoch, timing=options.timing)
        else:
            from olap.explain import bytes_read_by_engine

            print_runs(asked, epoch, bytes_read_by_engine(asked, engines, epoch, options.timeout_seconds))
    scan_stats = _scan_stats(asked, engines, epoch, options)
    if options.as_json:
        say_json(run_report(asked, epoch, scan_stats))
    elif scan_stats:
        from olap.explain.report import print_reasons

        print_reasons(asked, scan_stats)
    _explain_empty_answer(asked, engines)
    _raise_refusals(asked)


def _asked(
    question: "Question",
    engines: "Sequence[Engine]",
    epoch: "Epoch | None",
    rounds_max: int,
    timeout_seconds: float | None,
) -> AskResult:
    try:
        return run_query(question, engines, epoch, rounds_max=rounds_max, timeout_seconds=timeout_seconds)
    except QueryRejected as error:
        for where in getattr(error, "__notes__", ()):
            note(where, verbatim=True)
        raise
    except AnswersDiffer as error:
        lines = [(name, rows, "✓" if name in error.trusted else "✗") for name, rows in error.rows.items()]
        say_table(("engine", "rows", "equal"), lines, on_stderr=True)
        raise


def _print_answer(asked: AskResult, options: QueryOptions) -> None:
    format_ = choose_format(options.format_, options.file)
    on_terminal = format_ == "table" and options.file is None and sys.stdout.isatty()
    rows_max = options.limit if options.limit is not None else (TERMINAL_ROWS_MAX if on_terminal else 0)
    rows = asked.answer.num_rows
    shown = asked.answer.slice(0, rows_max) if 0 < rows_max < rows else asked.answer
    write_answer(shown, format_, options.file, expanded=options.expanded, pager=options.pager)
    if shown.num_rows < rows and format_ != "none":
        note(f"note: the first {shown.num_rows:,} of {rows:,} rows; {options.limit_option} 0 shows all")


def _scan_stats(
    asked: AskResult, engines: "Sequence[Engine]", epoch: "Epoch | None", options: QueryOptions
) -> "dict[str, ScanStats]":
    if not options.why:
        return {}
    from olap.explain import explain_answers  # imported late: needed with --why only

    return explain_answers(asked, engines, epoch, options.timeout_seconds)


def _explain_empty_answer(asked: AskResult, engines: "Sequence[Engine]") -> None:
    """For an empty answer, print which condition no row matches."""
    if asked.answer.num_rows > 1 or " where " not in f" {' '.join(asked.question.sql.lower().split())} ":
        return
    from olap.error_hints import empty_answer_hints, is_empty

    if is_empty(asked.answer):
        engine = next(engine for engine in engines if engine.name not in asked.refusals)
        for remark in empty_answer_hints(asked.question, engine):
            note(f"note: {remark}")


def _raise_refusals(asked: AskResult) -> None:
    if late := [run.refused for run in asked.runs if run.refused is not None and run.timed_out]:
        raise TimedOut("; ".join(late))
    if asked.refusals:
        from olap.error_hints import error_sentence

        raise QueryRejected("; ".join(map(error_sentence, asked.refusals.values())))


def print_run(asked: AskResult, epoch: "Epoch | None", *, timing: bool) -> None:
    """One line for one engine."""
    (run,) = asked.runs
    took = f" in {digits(run.usual_seconds, zeros=True)} s" if timing else ""
    state = "the rows as of now" if run.engine == "postgres" or epoch is None else f"epoch {epoch.number}"
    rows = counted(asked.answer.num_rows, "row")
    note(f"{rows}{took} ({run.engine} {full_version(run.engine, run.version)}, {state})")


def print_runs(asked: AskResult, epoch: "Epoch | None", bytes_read_by_engine: Mapping[str, int]) -> None:
    """A table for several engines. `bytes_read_by_engine`: by engine, where it was measured."""
    heads = ("engine", "seconds", "first", "rows", "bytes", "equal")
    say_table(
        heads, [_run_line(run, bytes_read_by_engine.get(run.engine)) for run in asked.runs], on_stderr=True
    )
    warm = max(len(run.seconds) for run in asked.runs) - 1
    how = f"median of {warm} interleaved runs after the first" if warm > 1 else "one run after the first"
    lake = f"epoch {epoch.number}; " if epoch else ""
    note(
        f"{lake}answers compared first; seconds: {how if warm else 'the first and only run'}; "
        "bytes: read in one more run"
    )


def _run_line(run: EngineRun, bytes_read_by_engine: int | None) -> tuple[str, ...]:
    engine = f"{run.engine} {full_version(run.engine, run.version)}"
    if run.answer is None:
        return (engine, "", "", "", "", "timed out" if run.timed_out else "refused")
    seconds = [digits(value, zeros=True) for value in (run.usual_seconds, run.first_seconds)]
    size = "–" if bytes_read_by_engine is None else f"{bytes_read_by_engine:,}"
    return (engine, *seconds, f"{run.answer.num_rows:,}", size, "✓")


def run_report(
    asked: AskResult, epoch: "Epoch | None", scan_stats: "Mapping[str, ScanStats]"
) -> dict[str, Any]:
    """The report of `--json`: engines, times, the checksum of the answer, and what each engine read."""
    return {
        "question": asked.question.name or None,
        "sql": asked.question.sql,
        "parameters": dict(asked.question.parameters),
        "epoch": epoch.number if epoch else None,
        "token": epoch.token.snapshot if epoch and not epoch.stores else None,
        "rows": asked.answer.num_rows,
        "equal": True,  # all engines that answered; different answers are an error
        "checksum": checksum(asked.answer, ordered=asked.question.ordered),
        "engines": [_run_report(run, scan_stats.get(run.engine)) for run in asked.runs],
    }


def _run_report(run: EngineRun, scan_stats: "ScanStats | None") -> dict[str, Any]:
    report: dict[str, Any] = {"engine": run.engine, "version": run.version}
    if run.answer is None:
        return report | {"refused": run.refused}
    report |= {
        "seconds": round(run.usual_seconds, 6),
        "first_seconds": round(run.first_seconds, 6),
        "rounds": len(run.seconds),
        "rows": run.answer.num_rows,
    }
    if scan_stats is not None:
        from olap.explain.report import reason_sentence

        report |= {"why": reason_sentence(scan_stats), "scan_stats": scan_stats.report()}
    return report
