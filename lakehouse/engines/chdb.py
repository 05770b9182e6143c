"""chDB (ClickHouse as a library) on the files of an epoch: a File or S3 table for each file, and a Merge
table over them for each table.

`readonly = 1` prevents writes, changes of settings and table functions. It does not prevent the scalar
function `file()`, `sleep` and INTO OUTFILE, so queries are also checked by `sql_check.py`. chDB reads the
credentials of a bucket itself, so they are in no statement. Outer joins and sums of no rows return NULL, as
in standard SQL.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from chdb import session as chdb_session
from sqlglot import exp

from lakehouse.engines import view_queries
from lakehouse.engines.parameters import Parameters, Value
from lakehouse.engines.sql_check import CheckedEngine, exact_decimal, unqualified_names
from lakehouse.table.epoch import Epoch, TableState
from lakehouse.table.s3 import ANSWER_SECONDS, ATTEMPTS, CONNECT_SECONDS, object_url, open_file
from ridelake.errors import QueryRejected
from ridelake.settings import S3, LakeAddress, Settings

SETTINGS = {
    "join_use_nulls": "1",
    "aggregate_functions_null_for_empty": "1",
    "cast_keep_nullable": "1",
    "union_default_mode": "'DISTINCT'",
    "group_by_use_nulls": "1",  # subtotals of ROLLUP have NULL instead of 0 or ''
    "session_timezone": "'UTC'",
    "prefer_column_name_to_alias": "1",  # in WHERE and GROUP BY a column precedes an alias, as in SQL
    "storage_file_read_method": "'pread'",  # bytes read by pread can be counted; mapped ones cannot
}
S3_SETTINGS = {
    "use_hive_partitioning": "0",  # a folder of the lake may be named a=b
    "s3_allow_server_credentials_in_user_queries": "1",  # also those of a profile or a role
    "s3_connect_timeout_ms": str(round(CONNECT_SECONDS * 1000)),
    "s3_request_timeout_ms": str(round(ANSWER_SECONDS * 1000)),
    "s3_retry_attempts": str(ATTEMPTS - 1),
    "s3_max_single_read_retries": str(ATTEMPTS - 1),
}
# The share of the machine's memory after which sorts and aggregations spill to disk. It is ClickHouse's
# default, but chDB 4.4 ignores it as a ratio, so it is set in bytes.
MEMORY_SHARE = 0.5

_OUT_OF_RANGE = re.compile(
    r"out of allowed Date32 range.*?column: (?P<column>.*?): \(in file/uri (?P<file>.*?)\)", re.DOTALL
)

# The database with a table for each file, whose names cannot collide with those of the epoch's tables.
PARTS = "parts"

TIMESTAMP = re.compile(r"DateTime(?:64)?\b(?:\([^)]*\))?")  # in the text of a type
UTC_TYPE, LOCAL_TYPE, TIME_TYPE = "DateTime64(6, 'UTC')", "DateTime64(6)", "Time64(6)"

# ClickHouse's categories of functions without side effects.
HARMLESS = (
    "Aggregate Functions", "Arithmetic", "Arrays", "Bit", "Comparison", "Conditional", "Dates and Times",
    "Distance", "Encoding", "Financial", "Geo", "Hash", "JSON", "Logical", "Map", "Mathematical", "Null",
    "Rounding", "String", "String Replacement", "String Search", "String Splitting", "Tuple",
    "Type Conversion", "URL", "UUID",
)  # fmt: skip


class ChDB(CheckedEngine):
    """An embedded ClickHouse session on the files of one epoch."""

    name = "chdb"
    dialect = "clickhouse"
    rules = (exact_decimal, unqualified_names)
    binds_parameters = False  # ClickHouse binds the values, but their types are in the query text

    def __init__(self, session: Any, tables: list[str], files: Mapping[str, Sequence[str]]) -> None:
        super().__init__(tables)
        self._files = files  # the paths, by table
        self._session = session
        categories = ", ".join(f"'{category}'" for category in HARMLESS)
        names = session.query(
            f"SELECT lower(name) AS name FROM system.functions WHERE categories IN ({categories})",  # noqa: S608
            "ArrowTable",
        )
        self._harmless = frozenset(names["name"].to_pylist())

    def version(self) -> str:
        return str(self._session.query("SELECT version() AS v", "ArrowTable")["v"][0].as_py())

    def is_harmless(self, function: str) -> bool:
        return function.lower() in self._harmless

    def translated(self, tree: exp.Expr, parameters: Parameters) -> exp.Expr:
        return _typed(super().translated(tree, parameters), parameters)

    def run(self, text: str, parameters: Parameters, *, explain: bool) -> pa.Table:
        values = {name: _text(value) for name, value in parameters.items() if value is not None}
        try:
            answer = self._session.query(f"EXPLAIN {text}" if explain else text, "ArrowTable", params=values)
            answer.validate(full=True)  # strings of ClickHouse may be invalid UTF-8
            answer = _without_unions(answer)
            if any(pa.types.is_timestamp(leaf) for field in answer.schema for leaf in _leaves(field.type)):
                return _local(answer, self._session.query(f"DESCRIBE ({text})", "ArrowTable", params=values))
            return answer
        except RuntimeError as error:  # chdb has two classes named ChdbError
            with suppress(pa.ArrowInvalid):  # after an error while it runs, the next answer is empty
                self._session.query("SELECT 1", "ArrowTable")
            raise QueryRejected(f"chdb: {self._date_out_of_range(error) or _message(error)}") from error
        except pa.ArrowInvalid as error:
            raise QueryRejected(f"chdb: the result contains text that is not UTF-8 ({error})") from error

    def _date_out_of_range(self, error: RuntimeError) -> str | None:
        """The message for a date that Date32 cannot store; None for other errors."""
        if (found := _OUT_OF_RANGE.search(str(error))) is None:
            return None
        table = next((name for name, files in self._files.items() if found["file"] in files), "a table")
        return (
            f"column {found['column']} of {table} has a date outside of chDB's range (years 0 to 9999): "
            "omit the column from the query, or use another engine"
        )


@contextmanager
def opened(settings: Settings, epoch: Epoch) -> Iterator[ChDB]:
    session: Any = chdb_session.Session()  # type: ignore[no-untyped-call]
    try:
        session.query(f"CREATE DATABASE {PARTS}")
        session.query("SET enable_time_time64_type = 1")  # before the tables that have it
        for setting, value in S3_SETTINGS.items():
            session.query(f"SET {setting} = {value}")
        numbers = count()
        for name, table in epoch.tables.items():
            _create_table(session, settings.lake, name, table, numbers)
        for setting, value in (_spilling() | SETTINGS).items():
            session.query(f"SET {setting} = {value}")
        files = {name: table.locations for name, table in epoch.tables.items()}
        views = view_queries(settings, epoch)
        chdb = ChDB(session, [*epoch.tables, *views], files)
        for name, query in views.items():  # after the settings, which determine the types of their columns
            session.query(f"CREATE VIEW {_quoted(name)} AS {chdb.written(query)}")
        session.query("SET readonly = 1")  # no setting can be changed after it
        yield chdb
    finally:
        with suppress(RuntimeError):
            session.close()


def _create_table(
    session: Any, lake: LakeAddress, name: str, table: TableState, numbers: Iterator[int]
) -> None:
    """A table of each file, and one over them. Deleted rows are removed by their row numbers."""
    columns = _columns(session, lake, table.locations[0])
    parts: dict[bool, list[str]] = {False: [], True: []}
    for file in table.files:
        part = _create_part(session, numbers, columns, _file_engine(lake, file.location))
        parts[file.deleted > 0].append(part)
    if not parts[True]:
        session.query(f"CREATE TABLE {_quoted(name)} ENGINE = {_merge(parts[False])}")
        return
    deleted = _create_part(session, numbers, "file String, pos UInt64", "Memory")
    for delete_file in table.deletes:
        session.query(
            f"INSERT INTO {PARTS}.{deleted} SELECT arrayElement(splitByChar('/', file_path), -1), pos "  # noqa: S608
            f"FROM {_file_function(lake, delete_file.location)}"
        )
    masked = _create_part(session, numbers, columns, _merge(parts[True]))
    deleted_rows = f"SELECT file, pos FROM {PARTS}.{deleted}"  # noqa: S608
    view = f"SELECT * FROM {PARTS}.{masked} WHERE (_file, _row_number) NOT IN ({deleted_rows})"  # noqa: S608
    if parts[False]:
        whole = _create_part(session, numbers, columns, _merge(parts[False]))
        view = f"SELECT * FROM {PARTS}.{whole} UNION ALL {view}"  # noqa: S608
    session.query(f"CREATE VIEW {_quoted(name)} AS {view}")


def _create_part(session: Any, numbers: Iterator[int], columns: str, engine: str) -> str:
    """A new table of the database PARTS; returns its name."""
    name = f"part_{next(numbers)}"
    session.query(f"CREATE TABLE {PARTS}.{name} ({columns}) ENGINE = {engine}")
    return name


def _file_engine(lake: LakeAddress, location: str) -> str:
    """The table engine for one Parquet file."""
    if location.startswith(S3):
        return f"S3({_string(object_url(lake, location))}, 'Parquet')"
    return f"File(Parquet, {_string(location)})"


def _file_function(lake: LakeAddress, location: str) -> str:
    """The table function for one Parquet file."""
    if location.startswith(S3):
        return f"s3({_string(object_url(lake, location))}, 'Parquet')"
    return f"file({_string(location)}, Parquet)"


def _merge(parts: Sequence[str]) -> str:
    pattern = "^({})$".format("|".join(parts))
    return f"Merge('{PARTS}', {_string(pattern)})"


def _spilling() -> dict[str, str]:
    memory = int(psutil.virtual_memory().total * MEMORY_SHARE)
    settings = {}
    for work in ("sort", "group_by"):
        settings[f"max_bytes_ratio_before_external_{work}"] = "0"
        settings[f"max_bytes_before_external_{work}"] = str(memory)
    return settings


def _columns(session: Any, lake: LakeAddress, location: str) -> str:
    """The columns that ClickHouse infers, except that a timestamp without time zone gets no zone, and a time
    of day no date."""
    found = session.query(f"DESCRIBE {_file_function(lake, location)}", "ArrowTable")
    with open_file(lake, location) as file:
        schema = pq.read_schema(file)
    fields = zip(found["name"].to_pylist(), found["type"].to_pylist(), schema, strict=True)
    others = {pa.timestamp("us"): LOCAL_TYPE, pa.time64("us"): TIME_TYPE}
    columns = []
    for name, type_, field in fields:
        first, *rest = type_.split(UTC_TYPE)
        # In the order of the values in the text of the type, in arrays and tuples too.
        times = [leaf for leaf in _leaves(field.type) if pa.types.is_timestamp(leaf) or leaf in others]
        found = zip(times, rest, strict=True)
        columns.append(
            f"{_quoted(name)} {first}"
            + "".join(f"{others.get(leaf, UTC_TYPE)}{text}" for leaf, text in found)
        )
    return ", ".join(columns)


def _leaves(type_: pa.DataType) -> Iterator[pa.DataType]:
    """The type of each value that is not a list or a struct."""
    if pa.types.is_list(type_):
        yield from _leaves(type_.value_type)
    elif pa.types.is_struct(type_):
        for field in type_:
            yield from _leaves(field.type)
    else:
        yield type_


def _quoted(name: str) -> str:
    return exp.to_identifier(name, quoted=True).sql(dialect="clickhouse")


def _string(text: str) -> str:
    return exp.Literal.string(text).sql(dialect="clickhouse")


def _typed(tree: exp.Expr, parameters: Parameters) -> exp.Expr:
    """Add the type of each parameter, {name: Type}. Casts use DateTime64: DateTime has no fractions."""

    def replaced(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.DataType) and node.this in TIMES:
            return exp.DataType.build(TIMES[node.this], dialect="clickhouse")
        if not isinstance(node, exp.Placeholder) or node.name not in parameters:
            return node
        value = parameters[node.name]
        if value is None:
            return exp.Null()
        return exp.Placeholder(this=node.this, kind=_type(value))

    return tree.transform(replaced)


TIMES = {exp.DataType.Type.TIMESTAMPNTZ: LOCAL_TYPE, exp.DataType.Type.TIMESTAMPTZ: UTC_TYPE}


def _type(value: Value) -> str:
    if isinstance(value, datetime):
        return LOCAL_TYPE if value.tzinfo is None else UTC_TYPE
    if isinstance(value, Decimal):
        return f"Decimal(76, {max(0, -int(value.as_tuple().exponent))})"
    names = {bool: "Bool", int: "Int64", float: "Float64", str: "String", date: "Date32"}
    return names[type(value)]


def _text(value: Value) -> str:
    if isinstance(value, datetime):
        value = value if value.tzinfo is None else value.astimezone(UTC)
        return value.replace(tzinfo=None).isoformat(" ", "microseconds")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # ClickHouse parses it as a field of a TSV file
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _without_unions(answer: pa.Table) -> pa.Table:
    """A list that only some stores have, as a list: for ClickHouse it is a Variant, because its arrays cannot
    be NULL, and for Arrow a union of a list and of NULL."""
    columns = [_without_union(column) if pa.types.is_union(column.type) else column for column in answer]
    return pa.Table.from_arrays(columns, answer.column_names)


def _without_union(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with the only type of its values; unchanged if they have several."""
    numbers = [n for n, field in enumerate(column.type) if not pa.types.is_null(field.type)]
    if len(numbers) != 1:
        return column
    number = numbers[0]
    code = column.type.type_codes[number]
    chunks = []
    for chunk in column.chunks:
        places = pc.if_else(pc.equal(chunk.type_codes, code), chunk.offsets, None)
        chunks.append(chunk.field(number).take(places))
    return pa.chunked_array(chunks, column.type.field(number).type)


def _local(answer: pa.Table, described: pa.Table) -> pa.Table:
    """Remove the time zone from timestamps without one: in Arrow, ClickHouse gives each timestamp a zone."""
    columns = []
    for column, type_ in zip(answer.columns, described["type"].to_pylist(), strict=True):
        zoned = iter(["'" in text for text in TIMESTAMP.findall(type_)])
        columns.append(column.cast(_without_zones(column.type, zoned)))
    return pa.Table.from_arrays(columns, answer.column_names)


def _without_zones(type_: pa.DataType, zoned: Iterator[bool]) -> pa.DataType:
    """The type without the zones of timestamps that have none. `zoned`: whether each timestamp has one."""
    if pa.types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_without_zones(type_.value_type, zoned)))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_without_zones(field.type, zoned)) for field in type_])
    return pa.timestamp(type_.unit) if pa.types.is_timestamp(type_) and not next(zoned, True) else type_


def _message(error: Exception) -> str:
    return str(error).strip().split("Stack trace:", 1)[0].strip()
