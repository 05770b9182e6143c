"""Read the scans from DuckDB's profile of a query.

`rows_scanned` in the profile are the rows that a scan produces after the filters pushed into it. The profile
does not contain the number of rows decoded."""

import json
import re
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from olap.why import Part
from olap.why.scans import Scans, texts, walk
from ridelake.errors import ProofFailed
from ridelake.settings import S3

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from lakehouse.epoch import Epoch, TableState
    from olap.question import Question

EXPLAIN = "EXPLAIN (ANALYZE, FORMAT JSON)\n"
TEXT = re.compile(r"'(?:[^']|'')*'")


def profiled(engine: "Engine", question: "Question", rows: int, epoch: "Epoch") -> Scans:
    """Profile the query. Raises ProofFailed if this run returns a different number of rows."""
    plan = engine.sql(EXPLAIN + question.sql_for(engine.name), question.parameters)
    profile = json.loads(plan["explain_value"][0].as_py())
    if "operator" not in profile:  # answered from the statistics in the footers, without a scan
        return Scans()
    nodes = [node for root in profile["operator"] for node in walk(root, "children")]
    returned = next(node for node in nodes if node["type"] == "EXPLAIN_ANALYZE")["children"][0]
    while returned["type"] == "CTE":  # has no counts itself; its last child is the query that uses it
        returned = returned["children"][-1]
    if returned["intermediate_rows"] != rows:
        raise ProofFailed(
            f"✗ cannot explain the answer of duckdb: a second run returned {returned['intermediate_rows']:,} "
            f"rows instead of {rows:,}; run the query again"
        )
    scans = [node for node in nodes if node.get("extra_info", {}).get("Function") == "PARQUET_SCAN"]
    tables = [_table(scan, epoch) for scan in scans]
    return Scans(
        bytes=profile["io"]["total_bytes_read"],
        files=_files(scans, tables),
        row_groups=Part(
            sum(scan["row_groups_scanned"] for scan in scans),
            sum(scan["total_row_groups_to_scan"] for scan in scans),
        ),
        columns=_columns_of_all(scans, tables),
        rows_past_filters=sum(scan["rows_scanned"] for scan in scans),
    )


def _table(scan: Any, epoch: "Epoch") -> "TableState | None":
    """The table of a scan, by its file names. None if it opened no file."""
    named = " ".join(texts(scan["extra_info"].get("Filename(s)")))
    return next(
        (table for table in epoch.tables.values() if any(location in named for location in table.locations)),
        None,
    )


def _files(scans: list[Any], tables: "list[TableState | None]") -> Part | None:
    touched = sum(int(scan["extra_info"].get("Total Files Read", 0)) for scan in scans)
    there = [len(table.files) for table in tables if table is not None]
    return Part(touched, sum(there)) if len(there) == len(tables) else None


def _columns_of_all(scans: list[Any], tables: "list[TableState | None]") -> Part | None:
    """Columns read, of all. None if the table is on S3, where reading its schema needs a request."""
    known = [table for table in tables if table is not None and not table.locations[0].startswith(S3)]
    if len(known) < len(tables):
        return None
    counted = [_columns(scan, table) for scan, table in zip(scans, known, strict=True)]
    return Part(sum(touched for touched, _ in counted), sum(there for _, there in counted))


def _columns(scan: Any, table: "TableState") -> tuple[int, int]:
    """(columns read, columns of the table). Read: columns that the scan outputs or filters; 0 if it reads no
    row group."""
    names = pq.read_schema(table.locations[0]).names
    if not scan["row_groups_scanned"]:
        return 0, len(names)
    info = scan["extra_info"]
    looked_at = " ".join(TEXT.sub("", text) for text in texts(info.get("Filters")))
    given = {text.split(" AS ")[0] for text in texts(info.get("Projections"))}
    touched = [name for name in names if name in given or re.search(rf"\b{re.escape(name)}\b", looked_at)]
    return len(touched), len(names)
