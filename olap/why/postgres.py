"""Read pages, rows and indexes of a query from EXPLAIN (ANALYZE, BUFFERS)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from olap.why import Touched
from olap.why.scans import walk
from ridelake.errors import ProofFailed, QueryRejected

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from olap.question import Question

PAGE_BYTES = "SELECT CAST(current_setting('block_size') AS bigint)"

# Rows examined by a scan: those it returns and those it removes.
ROW_COUNTS = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")

# Plan nodes that read rows of a table.
SCAN_NODES = (
    "Seq Scan",
    "Sample Scan",
    "Index Scan",
    "Index Only Scan",
    "Bitmap Heap Scan",
    "Tid Scan",
    "Tid Range Scan",
)


def touched_rows(engine: "Engine", question: "Question", rows: int) -> Touched:
    """Explain the query. Raises ProofFailed if this run returns a different number of rows."""
    postgres = cast("Any", engine)  # lakehouse.engines.postgres.Postgres, which has plan()
    try:
        plan: Mapping[str, Any] = postgres.plan(question.sql, question.parameters)["Plan"]
    except QueryRejected:  # SHOW and EXPLAIN have no plan
        return Touched(engine="postgres", layout="row-major", rows_returned=rows)
    returned = round(plan["Actual Rows"] * plan["Actual Loops"])
    if returned != rows:
        raise ProofFailed(
            f"✗ cannot explain the answer of postgres: a second run returned {returned:,} rows instead of "
            f"{rows:,}; run the query again"
        )
    nodes = list(walk(plan, "Plans"))
    scans = [node for node in nodes if node["Node Type"] in SCAN_NODES]
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
        rows_scanned=sum(_examined(scan) for scan in scans),
        rows_exact=all(scan["Actual Loops"] <= 1 for scan in scans),
        by_index=tuple(
            dict.fromkeys(node["Index Name"] for node in nodes if _was_executed(node, "Index Name"))
        ),
        end_to_end=tuple(
            dict.fromkeys(
                scan["Relation Name"]
                for scan in scans
                if scan["Node Type"] == "Seq Scan" and _was_executed(scan, "Relation Name")
            )
        ),
    )


def _examined(scan: Mapping[str, Any]) -> int:
    """Rows examined by a scan. The plan has averages over its loops, rounded by Postgres."""
    loops: float = scan["Actual Loops"]
    rows: float = sum(scan.get(name, 0) for name in ROW_COUNTS)
    return round(loops * rows)


def _was_executed(node: Mapping[str, Any], name: str) -> bool:
    return name in node and node["Actual Loops"] > 0
