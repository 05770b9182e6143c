"""Why an engine took as long as it did: what it had to touch for its answer, measured.

    postgres      EXPLAIN (ANALYZE, BUFFERS) of the query, in a transaction like the one that answered it
    duckdb        its own profile of the query: row groups, columns, rows
    polars        its plan, and what it says of row groups while it works
    all of files  the bytes that the engine's process read while it answered once more (`reading.py`)

What cannot be measured is None, and is said to be not measured. Nothing is said of an answer that differs:
`ask` has compared the answers before, and what is run again here is compared again.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from olap.answer import difference
from olap.ask import Asked, answer_of, interruptible
from olap.why.reading import reading
from ridelake.errors import ProofFailed, QueryRejected, TimedOut

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.engines import Engine
    from lakehouse.epoch import Epoch
    from olap.question import Question

ONE_MORE_RUN_SECONDS = 1.0  # who took longer is not asked once more only to count

Layout = Literal["row-major", "column-major"]


@dataclass(frozen=True, slots=True)
class Part:
    """So much of so much."""

    touched: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What one engine touched for one answer; None: not measured.

    Row-major: pages of `page_bytes`, `pages_hit` in Postgres' own memory, `pages_read` from outside it, both
    counted at every visit; `rows_scanned` looked at, `rows_exact` false where Postgres tells a mean of
    several loops; `by_index` the indexes used, `end_to_end` the tables scanned sequentially.
    Column-major: of all scans of files together, files opened, row groups and columns read, of those there
    are; `rows_past_filters` came out of the scans, after the filters that the engine applies inside them."""

    engine: str
    layout: Layout
    rows_returned: int
    bytes: int | None = None
    bytes_total: int | None = None
    page_bytes: int | None = None
    pages_hit: int | None = None
    pages_read: int | None = None
    rows_scanned: int | None = None
    rows_exact: bool = True
    by_index: tuple[str, ...] = ()
    end_to_end: tuple[str, ...] = ()
    files: Part | None = None
    row_groups: Part | None = None
    columns: Part | None = None
    rows_past_filters: int | None = None

    def report(self) -> dict[str, Any]:
        """Of its layout's numbers; null is not measured."""
        shared = ("layout", "rows_returned", "bytes")
        rows = (
            "page_bytes",
            "pages_hit",
            "pages_read",
            "rows_scanned",
            "rows_exact",
            "by_index",
            "end_to_end",
        )
        columns = ("bytes_total", "files", "row_groups", "columns", "rows_past_filters")
        told = asdict(self)
        return {name: told[name] for name in (*shared, *(rows if self.layout == "row-major" else columns))}


def why(
    asked: Asked,
    engines: "Sequence[Engine]",
    epoch: "Epoch | None",
    timeout_seconds: float | None = None,
) -> dict[str, Touched]:
    """By engine, for those that answered. Raises ProofFailed if an answer is not what it was, TimedOut if
    finding the reason takes longer than the answer may."""
    answers = {run.engine: run.answer for run in asked.runs if run.answer is not None}
    return {
        engine.name: interruptible(
            engine,
            partial(_touched, engine, asked.question, answers[engine.name], epoch),
            timeout_seconds,
        )
        for engine in engines
        if engine.name in answers
    }


def bytes_touched(
    asked: Asked,
    engines: "Sequence[Engine]",
    epoch: "Epoch | None",
    timeout_seconds: float | None = None,
) -> dict[str, int]:
    """How many bytes each engine touches for its answer, by one more run of those that are quick; who is slow
    or cannot tell is left out."""
    quick = {run.engine for run in asked.runs if run.seconds and run.usual_seconds <= ONE_MORE_RUN_SECONDS}
    found: dict[str, int] = {}
    for engine in engines:
        if engine.name in quick:
            with suppress(ProofFailed, QueryRejected, TimedOut):  # the answers were compared, and stand
                work = partial(_bytes, engine, asked, epoch)
                if (count := interruptible(engine, work, timeout_seconds)) is not None:
                    found[engine.name] = count
    return found


def _bytes(engine: "Engine", asked: Asked, epoch: "Epoch | None") -> int | None:
    if engine.name == "postgres":
        from olap.why.postgres import touched_rows

        return touched_rows(engine, asked.question, asked.answer.num_rows).bytes
    assert epoch is not None
    return reading(engine, epoch, lambda: answer_of(engine, asked.question))[1]


def _touched(engine: "Engine", question: "Question", answer: "pa.Table", epoch: "Epoch | None") -> Touched:
    if engine.name == "postgres":
        from olap.why.postgres import touched_rows

        return touched_rows(engine, question, answer.num_rows)
    assert epoch is not None  # files are of one
    return _touched_files(engine, question, answer, epoch)


def _touched_files(engine: "Engine", question: "Question", answer: "pa.Table", epoch: "Epoch") -> Touched:
    from olap.why.scans import Scans, scans_of, tables_of

    found, bytes_read = reading(engine, epoch, lambda: answer_of(engine, question))
    if message := difference(answer, found, ordered=question.ordered, names=("the first run", "the second")):
        raise ProofFailed(f"✗ cannot explain the answer of {engine.name}: a second run differs; {message}")
    tables = tables_of(question.sql_for("duckdb"), epoch)
    try:
        scans = scans_of(engine, question, answer.num_rows, epoch)
    except QueryRejected:  # what is no SELECT (DESCRIBE, SHOW, EXPLAIN) has no plan to tell of
        scans = Scans()
    return Touched(
        engine=engine.name,
        layout="column-major",
        rows_returned=answer.num_rows,
        bytes=bytes_read if bytes_read is not None else scans.bytes,
        bytes_total=None if tables is None else sum(epoch.tables[name].bytes for name in tables),
        files=scans.files,
        row_groups=scans.row_groups,
        columns=scans.columns,
        rows_past_filters=scans.rows_past_filters,
    )
