"""What an engine read for an answer, as reported by its query plan and by the kernel.

DuckDB: `rows_scanned` in the profile counts rows after the filters pushed into the scan. The profile
does not contain the number of rows decoded.

Polars reports row groups only if a filter may skip some of them. It does not report rows.

Linux counts the bytes that a process has read with read() and pread(): `rchar` in /proc/PID/io. The count
excludes files that are mapped into memory, and the network. Nothing else in the process may read during the
measurement; therefore the query must have run before, and all modules must be imported.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import pyarrow.parquet as pq

from lakehouse.engines import ride_table_query
from ridelake.errors import ProofFailed, QueryRejected
from ridelake.settings import S3

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from lakehouse.table.epoch import Epoch, TableState
    from olap.question import Question


StorageLayout = Literal["row-major", "column-major"]


@dataclass(frozen=True, slots=True)
class ScanShare:
    """A part of a total, such as 3 of 17 columns."""

    read: int
    total: int

    def __str__(self) -> str:
        return f"{self.read:,} of {self.total:,}"


# Fields that only one layout has.
ROW_MAJOR = frozenset(
    {"page_bytes", "pages_hit", "pages_read", "rows_scanned", "rows_exact", "index_scans", "sequential_scans"}
)
COLUMN_MAJOR = frozenset(
    {"bytes_total", "files", "row_groups", "columns", "rows_past_filters", "deletes", "rows_deleted"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanStats:
    """What one engine read for one answer; None: not measured.

    Row-major: `pages_hit` were found in shared buffers and `pages_read` were read into them, counted at each
    access, of `page_bytes` each. `rows_scanned`: rows examined by the scans; `rows_exact` is false if
    Postgres reports an average over several loops. `index_scans`: the indexes used; `sequential_scans`: the
    tables read by a sequential scan. Column-major: files opened, row groups and columns read, summed over all
    scans, and their totals. `rows_past_filters`: rows that the scans produced, after the filters inside
    them. `deletes`: the bytes of the tables' delete files, which are read when the epoch is opened, and
    `rows_deleted`: the rows of the data files that they exclude."""

    engine: str
    layout: StorageLayout
    rows_returned: int
    bytes: int | None = None
    bytes_total: int | None = None
    page_bytes: int | None = None
    pages_hit: int | None = None
    pages_read: int | None = None
    rows_scanned: int | None = None
    rows_exact: bool = True
    index_scans: tuple[str, ...] = ()
    sequential_scans: tuple[str, ...] = ()
    files: ScanShare | None = None
    row_groups: ScanShare | None = None
    columns: ScanShare | None = None
    rows_past_filters: int | None = None
    deletes: int | None = None
    rows_deleted: int | None = None

    def report(self) -> dict[str, Any]:
        """The numbers of its layout for `--json`; null: not measured."""
        omitted = {"engine"} | (COLUMN_MAJOR if self.layout == "row-major" else ROW_MAJOR)
        return {name: value for name, value in asdict(self).items() if name not in omitted}


def scans_of(engine: "Engine", question: "Question", rows: int, epoch: "Epoch") -> ScanStats:
    """What an engine over files reports itself. Raises ProofFailed if the answer has changed."""
    nothing = ScanStats(engine=engine.name, layout="column-major", rows_returned=rows)
    try:
        if engine.name == "duckdb":
            return duckdb_scans(engine, question, nothing, epoch)
        if engine.name == "polars":
            return polars_scans(engine, question, nothing)
    except QueryRejected:  # DESCRIBE, SHOW and EXPLAIN have no plan
        pass
    return nothing


def tables_of(query: str, epoch: "Epoch") -> set[str] | None:
    """The tables of the epoch that the query uses, directly or through RideTable; None if the SQL cannot be
    parsed."""
    import sqlglot
    from sqlglot import exp

    def named(text: str, dialect: str) -> set[str]:
        return {table.name.lower() for table in sqlglot.parse_one(text, dialect=dialect).find_all(exp.Table)}

    known: dict[str, set[str]] = {name.lower(): {name} for name in epoch.tables}
    for name, table in epoch.tables.items():
        if table.store:  # also through the union of all stores
            known.setdefault(name.removeprefix(f"{table.store}_").lower(), set()).add(name)
    try:
        names = named(query, "duckdb")
        if "ridetable" in names - set(known):
            names |= named(ride_table_query(), "postgres")
    except sqlglot.errors.SqlglotError:
        return None
    return {table for name in names & set(known) for table in known[name]}


def walk(node: Any, children: str) -> Iterator[Any]:
    """A plan node and all its descendants."""
    yield node
    for child in node.get(children, ()):
        yield from walk(child, children)


def texts(value: Any) -> Sequence[str]:
    """A list of strings; DuckDB's profile has a plain string instead of a list of one."""
    return value if isinstance(value, list) else [value] if value else []


EXPLAIN = "EXPLAIN (ANALYZE, FORMAT JSON)\n"
TEXT = re.compile(r"'(?:[^']|'')*'")


def duckdb_scans(engine: "Engine", question: "Question", stats: ScanStats, epoch: "Epoch") -> ScanStats:
    """`stats` with the profile of the query. Raises ProofFailed if this run returns a different number of
    rows."""
    profile = _duckdb_profile(engine, question)
    nodes = [node for root in profile.get("operator", ()) for node in walk(root, "children")]
    if not nodes:  # answered from the statistics in the footers, without a scan
        return stats
    returned = next(node for node in nodes if node["type"] == "EXPLAIN_ANALYZE")["children"][0]
    while returned["type"] == "CTE":  # has no counts itself; its last child is the query that uses it
        returned = returned["children"][-1]
    _check_rows("duckdb", returned["intermediate_rows"], stats.rows_returned)
    scans = _parquet_scans(nodes)
    tables = [_table(scan, epoch) for scan in scans]
    return replace(
        stats,
        bytes=profile["io"]["total_bytes_read"],
        files=_files(scans, tables),
        row_groups=ScanShare(
            sum(scan["row_groups_scanned"] for scan in scans),
            sum(scan["total_row_groups_to_scan"] for scan in scans),
        ),
        columns=_columns_of_all(scans, tables),
        rows_past_filters=sum(scan["rows_scanned"] for scan in scans),
    )


def duckdb_columns(engine: "Engine", question: "Question", epoch: "Epoch") -> dict[str, set[str]]:
    """The columns that DuckDB reads for the query, by the name of the table."""
    profile = _duckdb_profile(engine, question)
    nodes = [node for root in profile.get("operator", ()) for node in walk(root, "children")]
    names = {id(table): name for name, table in epoch.tables.items()}
    found: dict[str, set[str]] = {}
    for scan in _parquet_scans(nodes):
        if (table := _table(scan, epoch)) is not None:
            found.setdefault(names[id(table)], set()).update(_columns_read(scan, _column_names(table)))
    return found


def _duckdb_profile(engine: "Engine", question: "Question") -> dict[str, Any]:
    plan = engine.sql(EXPLAIN + question.sql_for(engine.name), question.parameters)
    profile: dict[str, Any] = json.loads(plan["explain_value"][0].as_py())
    return profile


def _parquet_scans(nodes: list[Any]) -> list[Any]:
    return [node for node in nodes if node.get("extra_info", {}).get("Function") == "PARQUET_SCAN"]


def _table(scan: Any, epoch: "Epoch") -> "TableState | None":
    """The table of a scan, by its file names. None if it opened no file."""
    named = " ".join(texts(scan["extra_info"].get("Filename(s)")))
    return next(
        (table for table in epoch.tables.values() if any(location in named for location in table.locations)),
        None,
    )


def _files(scans: list[Any], tables: "list[TableState | None]") -> ScanShare | None:
    read = sum(int(scan["extra_info"].get("Total Files Read", 0)) for scan in scans)
    there = [len(table.files) for table in tables if table is not None]
    return ScanShare(read, sum(there)) if len(there) == len(tables) else None


def _columns_of_all(scans: list[Any], tables: "list[TableState | None]") -> ScanShare | None:
    """Columns read, of all. None if the table is on S3, where reading its schema needs a request."""
    known = [table for table in tables if table is not None and not table.locations[0].startswith(S3)]
    if len(known) < len(tables):
        return None
    all_names = [_column_names(table) for table in known]
    read = [_columns_read(scan, names) for scan, names in zip(scans, all_names, strict=True)]
    return ScanShare(sum(map(len, read)), sum(map(len, all_names)))


def _column_names(table: "TableState") -> list[str]:
    names: list[str] = pq.read_schema(table.locations[0]).names
    return names


def _columns_read(scan: Any, names: list[str]) -> list[str]:
    """The columns of the table that the scan outputs or filters; none if it reads no row group."""
    if not scan["row_groups_scanned"]:
        return []
    info = scan["extra_info"]
    looked_at = " ".join(TEXT.sub("", text) for text in texts(info.get("Filters")))
    given = {text.split(" AS ")[0] for text in texts(info.get("Projections"))}
    return [name for name in names if name in given or re.search(rf"\b{re.escape(name)}\b", looked_at)]


COLUMNS = re.compile(r"^\s*PROJECT (\d+|\*)/(\d+) COLUMNS", re.MULTILINE)
SCAN = re.compile(r"^\s*Parquet SCAN ", re.MULTILINE)
FILES = re.compile(r"Readers init: (\d+) / \((\d+) total\)")
ROW_GROUPS = re.compile(r"Predicate pushdown: reading (\d+) / (\d+) row groups")


def polars_scans(engine: "Engine", question: "Question", stats: ScanStats) -> ScanStats:
    """`stats` with what Polars writes in verbose mode. Raises QueryRejected if it cannot plan the query."""
    polars = cast("Any", engine)  # runs in a child process, which forwards `explained`
    arguments = (
        (question.frames,)
        if question.frames is not None
        else (question.sql_for("polars"), dict(question.parameters))
    )
    (report,) = polars.call("explained", *arguments).to_pylist()
    plan, output = report["plan"], report["said"]
    columns = [(read.replace("*", total), total) for read, total in COLUMNS.findall(plan)]
    scans = len(SCAN.findall(plan))
    opened = _sum(FILES.findall(output))
    pruned = ROW_GROUPS.findall(output)
    return replace(
        stats,
        files=opened if len(FILES.findall(output)) == scans else None,
        row_groups=_sum(pruned) if opened and len(pruned) == opened.read else None,
        columns=_sum(columns) if len(columns) == scans else None,
    )


def _sum(parts: list[Any]) -> ScanShare:
    return ScanShare(sum(int(read) for read, _ in parts), sum(int(total) for _, total in parts))


PAGE_BYTES = "SELECT CAST(current_setting('block_size') AS bigint)"

# Rows examined by a scan: the rows that it returns and the rows that it removes.
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


def postgres_scan_stats(engine: "Engine", question: "Question", rows: int) -> ScanStats:
    """Explain the query. Raises ProofFailed if this run returns a different number of rows."""
    postgres = cast("Any", engine)  # lakehouse.engines.postgres.Postgres, which has plan()
    try:
        plan: Mapping[str, Any] = postgres.plan(question.sql, question.parameters)["Plan"]
    except QueryRejected:  # SHOW and EXPLAIN have no plan
        return ScanStats(engine="postgres", layout="row-major", rows_returned=rows)
    returned = round(plan["Actual Rows"] * plan["Actual Loops"])
    _check_rows("postgres", returned, rows)
    nodes = list(walk(plan, "Plans"))
    scans = [node for node in nodes if node["Node Type"] in SCAN_NODES]
    executed = [node for node in nodes if node["Actual Loops"] > 0]
    sequential = [node for node in executed if node["Node Type"] == "Seq Scan"]
    hit, read = plan["Shared Hit Blocks"], plan["Shared Read Blocks"]
    page_bytes: int = engine.sql(PAGE_BYTES)[0][0].as_py()
    return ScanStats(
        engine="postgres",
        layout="row-major",
        rows_returned=rows,
        bytes=(hit + read) * page_bytes,
        page_bytes=page_bytes,
        pages_hit=hit,
        pages_read=read,
        rows_scanned=sum(_examined(scan) for scan in scans),
        rows_exact=all(scan["Actual Loops"] <= 1 for scan in scans),
        index_scans=tuple(dict.fromkeys(node["Index Name"] for node in executed if "Index Name" in node)),
        sequential_scans=tuple(dict.fromkeys(node["Relation Name"] for node in sequential)),
    )


def _check_rows(engine: str, returned: int, expected: int) -> None:
    if returned != expected:
        raise ProofFailed(
            f"✗ cannot explain the answer of {engine}: a second run returned {returned:,} rows instead of "
            f"{expected:,}; run the query again"
        )


def _examined(scan: Mapping[str, Any]) -> int:
    """Rows examined by a scan. The plan has averages over its loops, rounded by Postgres."""
    loops: float = scan["Actual Loops"]
    rows: float = sum(scan.get(name, 0) for name in ROW_COUNTS)
    return round(loops * rows)


T = TypeVar("T")

# Engines for which the count was verified, by the process that reads: this one, or a child.
COUNTED_IN_PROCESS = frozenset({"duckdb", "pyarrow"})
COUNTED_IN_CHILD = frozenset({"chdb", "daft", "datafusion", "polars", "spark"})


def measure_reads(engine: "Engine", epoch: "Epoch", work: Callable[[], T]) -> tuple[T, int | None]:
    """The result of `work`, and the bytes that the engine read during it, or None if not measured."""
    process: int | None = os.getpid() if engine.name in COUNTED_IN_PROCESS else None
    if engine.name in COUNTED_IN_CHILD:
        process = getattr(engine, "process_id", None)
    if process is None or any(file.location.startswith(S3) for file in epoch.files):
        return work(), None
    return bytes_read(process, work)


def bytes_read(process: int, work: Callable[[], T]) -> tuple[T, int | None]:
    """The result of `work`, and the bytes that the process and its existing children read during it."""
    processes = [process, *_descendants(process)]
    before = [_counted(one) for one in processes]
    result = work()
    after = [_counted(one) for one in processes]
    total = 0
    for one, (begin, overhead), (end, _) in zip(processes, before, after, strict=True):
        if begin is None or end is None:
            return result, None
        # In this process, the second reading of /proc includes the bytes of the first.
        total += end - begin - (overhead if one == os.getpid() else 0)
    return result, total


def _counted(process: int) -> tuple[int | None, int]:
    """`rchar`, and the bytes read to get it."""
    try:
        text = Path(f"/proc/{process}/io").read_text()
    except OSError:  # not Linux, or no permission
        return None, 0
    return int(text.split("rchar:", 1)[1].split(maxsplit=1)[0]), len(text)


def _descendants(process: int) -> list[int]:
    """Descendants of a child process, such as the JVM of Spark. Empty for this process, which has other
    children."""
    if process == os.getpid():
        return []
    import psutil

    return [child.pid for child in psutil.Process(process).children(recursive=True)]
