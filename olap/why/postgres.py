"""What EXPLAIN (ANALYZE, BUFFERS) says of a query: pages visited, rows looked at, indexes used."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from olap.why import Touched
from olap.why.scans import walk
from ridelake.errors import ProofFailed, QueryRejected

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from olap.question import Question

PAGE_BYTES = "SELECT CAST(current_setting('block_size') AS bigint)"

# What a scan looks at: the rows it gives on, and those it drops.
LOOKED_AT = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")

# The nodes of a plan that read rows of a table.
HAS_ROWS = (
    "Seq Scan",
    "Sample Scan",
    "Index Scan",
    "Index Only Scan",
    "Bitmap Heap Scan",
    "Tid Scan",
    "Tid Range Scan",
)


def touched_rows(engine: "Engine", question: "Question", rows: int) -> Touched:
    """Raises ProofFailed if the rows have changed in number since they were answered."""
    postgres = cast("Any", engine)  # lakehouse.engines.postgres.Postgres, which has plans
    try:
        plan: Mapping[str, Any] = postgres.plan(question.sql, question.parameters)["Plan"]
    except QueryRejected:  # what is no SELECT (SHOW, EXPLAIN) has no plan
        return Touched(engine="postgres", layout="row-major", rows_returned=rows)
    returned = round(plan["Actual Rows"] * plan["Actual Loops"])
    if returned != rows:
        raise ProofFailed(
            f"✗ cannot explain the answer of postgres: a second run returned {returned:,} rows instead of "
            f"{rows:,}; run the query again"
        )
    nodes = list(walk(plan, "Plans"))
    scans = [node for node in nodes if node["Node Type"] in HAS_ROWS]
    hit, read = plan["Shared Hit Blocks"], plan["Shared Read Blocks"]
    page_bytes: int = engine.sql(PAGE_BYTES)[0][0].as_py()
    return Touched(
        engine="postgres",
        layout="row-major",
        rows_returned=rows,
        bytes=(hit + read) * page_bytes,
        page_bytes=page_bytes,
        pages_hit=hit,
        pages_read=read,
        rows_scanned=sum(_looked_at(scan) for scan in scans),
        rows_exact=all(scan["Actual Loops"] <= 1 for scan in scans),
        by_index=tuple(dict.fromkeys(node["Index Name"] for node in nodes if _was_done(node, "Index Name"))),
        end_to_end=tuple(
            dict.fromkeys(
                scan["Relation Name"]
                for scan in scans
                if scan["Node Type"] == "Seq Scan" and _was_done(scan, "Relation Name")
            )
        ),
    )


def _looked_at(scan: Mapping[str, Any]) -> int:
    """Each number is a mean of the loops, rounded by Postgres."""
    loops: float = scan["Actual Loops"]
    rows: float = sum(scan.get(name, 0) for name in LOOKED_AT)
    return round(loops * rows)


def _was_done(node: Mapping[str, Any], name: str) -> bool:
    return name in node and node["Actual Loops"] > 0
