"""What Polars says of its scans: the columns in its plan, the row groups in what it prints while it works.

It tells of row groups only where a filter may leave some out, and of rows not at all.
"""

import re
from typing import TYPE_CHECKING, Any, cast

from olap.why import Part
from olap.why.scans import Scans

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from olap.question import Question

COLUMNS = re.compile(r"^\s*PROJECT (\d+|\*)/(\d+) COLUMNS", re.MULTILINE)
SCAN = re.compile(r"^\s*Parquet SCAN ", re.MULTILINE)
FILES = re.compile(r"Readers init: (\d+) / \((\d+) total\)")
ROW_GROUPS = re.compile(r"Predicate pushdown: reading (\d+) / (\d+) row groups")


def explained(engine: "Engine", question: "Question") -> Scans:
    """Raises QueryRejected for what is no query."""
    polars = cast("Any", engine)  # in its own process, which passes `explained` on
    asked = (
        (question.frames,)
        if question.frames is not None
        else (question.sql_for("polars"), dict(question.parameters))
    )
    (told,) = polars.call("explained", *asked).to_pylist()
    plan, words = told["plan"], told["said"]
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
