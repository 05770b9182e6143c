"""Explain the run time of an engine by measuring what it read for its answer.

    postgres              EXPLAIN (ANALYZE, BUFFERS) of the query
    duckdb                its profile of the query: row groups, columns, rows
    polars                its plan, and its messages on row groups
    engines over files    the bytes that the process of the engine read in one more run (`scans.py`)

What cannot be measured is None and is reported as not measured. `ask` has compared the answers; the runs made
here are compared again.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from olap.answer import difference
from olap.ask import AskResult, answer_of, interruptible
from olap.explain.scans import ScanStats, measure_reads, postgres_scan_stats, scans_of, tables_of
from ridelake.errors import ProofFailed, QueryRejected, TimedOut

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.engines import Engine
    from lakehouse.table.epoch import Epoch
    from olap.question import Question

ONE_MORE_RUN_SECONDS = 1.0  # a slower engine is not run again only to count its bytes


def explain_answers(
    asked: AskResult,
    engines: "Sequence[Engine]",
    epoch: "Epoch | None",
    timeout_seconds: float | None = None,
) -> dict[str, ScanStats]:
    """What each engine read, by engine, for the engines that answered. `timeout_seconds` applies to each
    engine.

    Raises ProofFailed if a second run gives a different answer, and TimedOut."""
    answers = {run.engine: run.answer for run in asked.runs if run.answer is not None}
    return {
        engine.name: interruptible(
            engine,
            partial(_scan_stats_of, engine, asked.question, answers[engine.name], epoch),
            timeout_seconds,
        )
        for engine in engines
        if engine.name in answers
    }


def bytes_read_by_engine(
    asked: AskResult,
    engines: "Sequence[Engine]",
    epoch: "Epoch | None",
    timeout_seconds: float | None = None,
) -> dict[str, int]:
    """The bytes that each engine reads for its answer, measured in one more run. Engines that took longer
    than ONE_MORE_RUN_SECONDS or cannot be measured are omitted."""
    quick = {run.engine for run in asked.runs if run.seconds and run.usual_seconds <= ONE_MORE_RUN_SECONDS}
    found: dict[str, int] = {}
    for engine in engines:
        if engine.name in quick:
            with suppress(ProofFailed, QueryRejected, TimedOut):  # the count is optional
                work = partial(_bytes, engine, asked, epoch)
                if (count := interruptible(engine, work, timeout_seconds)) is not None:
                    found[engine.name] = count
    return found


def _bytes(engine: "Engine", asked: AskResult, epoch: "Epoch | None") -> int | None:
    if engine.name == "postgres":
        return postgres_scan_stats(engine, asked.question, asked.answer.num_rows).bytes
    assert epoch is not None  # files belong to an epoch
    return measure_reads(engine, epoch, lambda: answer_of(engine, asked.question))[1]


def _scan_stats_of(
    engine: "Engine", question: "Question", answer: "pa.Table", epoch: "Epoch | None"
) -> ScanStats:
    if engine.name == "postgres":
        return postgres_scan_stats(engine, question, answer.num_rows)
    assert epoch is not None
    found, bytes_read = measure_reads(engine, epoch, lambda: answer_of(engine, question))
    if message := difference(answer, found, ordered=question.ordered, names=("the first run", "the second")):
        raise ProofFailed(f"✗ cannot explain the answer of {engine.name}: a second run differs; {message}")
    names = tables_of(question.sql_for("duckdb"), epoch)
    tables = None if names is None else [epoch.tables[name] for name in names]
    reported = scans_of(engine, question, answer.num_rows, epoch)
    return replace(
        reported,
        bytes=bytes_read if bytes_read is not None else reported.bytes,
        bytes_total=None if tables is None else sum(table.bytes for table in tables),
        deletes=None if tables is None else sum(file.bytes for table in tables for file in table.deletes),
        rows_deleted=None if tables is None else sum(f.deleted for table in tables for f in table.files),
    )
