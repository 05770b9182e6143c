"""Read the scans of Polars: columns from its plan, row groups from its verbose output.

Polars reports row groups only if a filter may skip some of them. It does not report rows.
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
    """Run the query in verbose mode. Raises QueryRejected if Polars cannot plan it."""
    polars = cast("Any", engine)  # runs in a child process, which forwards `explained`
    arguments = (
        (question.frames,)
        if question.frames is not None
        else (question.sql_for("polars"), dict(question.parameters))
    )
    (report,) = polars.call("explained", *arguments).to_pylist()
    plan, output = report["plan"], report["said"]
    columns = [(touched.replace("*", total), total) for touched, total in COLUMNS.findall(plan)]
    scans = len(SCAN.findall(plan))
    opened = _sum(FILES.findall(output))
    pruned = ROW_GROUPS.findall(output)
    return Scans(
        files=opened if len(FILES.findall(output)) == scans else None,
        row_groups=_sum(pruned) if opened and len(pruned) == opened.touched else None,
        columns=_sum(columns) if len(columns) == scans else None,
    )


def _sum(parts: list[Any]) -> Part:
    return Part(sum(int(touched) for touched, _ in parts), sum(int(total) for _, total in parts))
