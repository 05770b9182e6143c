"""What the two layouts read for an answer, measured in one more run of the query now and then."""

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from lakehouse.engines import open_engine
from lakehouse.inspect.parquet_pages import column_sizes
from lakehouse.table.storage import Storage
from olap.explain.scans import duckdb_columns, postgres_scan_stats, scans_of, tables_of
from ridelake.errors import ProofFailed, QueryRejected
from ridelake.settings import Settings

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from lakehouse.table.epoch import Epoch
    from olap.question import Question

WHOLE_HEAP = [[0.0, 1.0]]


def rows_read(engine: "Engine", question: "Question", rows: int) -> dict[str, Any]:
    """`bytes` and `heap` of the part `question.rows`; the heap is [] if its pages were found by an index."""
    with suppress(ProofFailed, QueryRejected):  # the store has changed since the answer
        stats = postgres_scan_stats(engine, question, rows)
        return {"bytes": stats.bytes, "heap": WHOLE_HEAP if stats.sequential_scans else []}
    return {"bytes": None, "heap": []}


def columns_read(
    settings: Settings, engine: "Engine", question: "Question", rows: int, epoch: "Epoch"
) -> dict[str, Any]:
    """`of_bytes`, `chunks`, `row_groups_read` and `row_groups` of the part `question.columns`. The chunks are
    those of the largest table of the query; which of its columns are needed is taken from DuckDB's plan."""
    names = tables_of(question.sql_for("duckdb"), epoch) or set()
    tables = {name: epoch.tables[name] for name in names}
    found: dict[str, Any] = {
        "of_bytes": sum(table.bytes for table in tables.values()), "chunks": [],
        "row_groups_read": None, "row_groups": None,
    }  # fmt: skip
    if not tables:
        return found
    largest = max(tables, key=lambda name: tables[name].bytes)
    sizes, found["row_groups"] = column_sizes(Storage.of(settings.lake), tables[largest])
    needed: set[str] = set()
    with suppress(ProofFailed, QueryRejected), ExitStack() as opened:
        duckdb = engine if engine.name == "duckdb" else opened.enter_context(
            open_engine("duckdb", settings, epoch)
        )  # fmt: skip
        needed = duckdb_columns(duckdb, question, epoch).get(largest, set())
    total = sum(sizes.values()) or 1
    found["chunks"] = [
        {"column": name, "share": round(size / total, 5), "read": name in needed}
        for name, size in sizes.items()
    ]
    with suppress(ProofFailed, QueryRejected):
        groups = scans_of(engine, question, rows, epoch).row_groups
        if groups is not None:
            found |= {"row_groups_read": groups.read, "row_groups": groups.total}
    return found
