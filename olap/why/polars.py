"""What Polars says of its scans: the columns in its plan, the row groups in what it prints while it works.

It tells of row groups only where a filter may leave some out, and of rows not at all.
"""

import os
import re
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from olap.why import Part
from olap.why.scans import Scans

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from olap.question import Question

COLUMNS = re.compile(r"^\s*PROJECT (\d+|\*)/(\d+) COLUMNS", re.MULTILINE)
SCAN = re.compile(r"^\s*Parquet SCAN ", re.MULTILINE)
FILES = re.compile(rb"Readers init: (\d+) / \((\d+) total\)")
ROW_GROUPS = re.compile(rb"Predicate pushdown: reading (\d+) / (\d+) row groups")
STDERR = 2


def explained(engine: "Engine", question: "Question") -> Scans:
    """Raises QueryRejected for what is no query."""
    polars = cast("Any", engine)  # lakehouse.engines.polars.Polars, which has frames and can be lazy
    with getattr(engine, "reading", nullcontext)():
        if question.frames is not None:
            frame: pl.LazyFrame = question.frames(polars.frames)
        else:
            frame = polars.lazy(question.sql, question.parameters)
        plan = frame.explain()
        words = _overheard(frame.collect)
    columns = [(touched.replace("*", total), total) for touched, total in COLUMNS.findall(plan)]
    scans = len(SCAN.findall(plan))
    opened = _sum(FILES.findall(words))
    pruned = ROW_GROUPS.findall(words)
    return Scans(
        files=opened if len(FILES.findall(words)) == scans else None,
        row_groups=_sum(pruned) if opened and len(pruned) == opened.touched else None,
        columns=_sum(columns) if len(columns) == scans else None,
    )


def _sum(parts: list[Any]) -> Part:
    return Part(sum(int(touched) for touched, _ in parts), sum(int(total) for _, total in parts))


def _overheard(work: Callable[[], object]) -> bytes:
    """What Polars tells of its work: it goes to stderr, from code that is not Python's."""
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(STDERR)
        os.dup2(kept.fileno(), STDERR)
        try:
            with pl.Config(verbose=True):
                work()
        finally:
            os.dup2(stderr, STDERR)
            os.close(stderr)
        kept.seek(0)
        return kept.read()
