"""The bytes of a row, written by Postgres and by DuckDB, each in its own SQL, and read again for display.

    record = int32 columns │ int32 type, int32 length, bytes │ int32 type, int32 length, bytes │ …

A length of -1 is a NULL. Postgres computes the bytes with record_send, DuckDB concatenates them. Types that
the lake stores as text (uuid, enum) or as a decimal are compared as text, so that an implicit conversion of a
reader cannot hide a difference. A struct is a record, and a list is an array of its elements:

    array = int32 dimensions, int32 has a NULL, int32 type │ int32 size, int32 1 │ int32 length, bytes │ …
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NewType

import pyarrow as pa
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from lakehouse.table.columns import SourceColumn
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.verify")

# Bucket → number of rows, and sum of their hashes.
Sums = dict[int, tuple[int, int]]

# Key → the bytes of each row with that key.
Rows = dict[bytes, list[bytes]]

# A power of two minus one: the bits of a row's hash that are its bucket.
Mask = NewType("Mask", int)

ROWS_PER_BUCKET = 1024
BUCKETS_MIN, BUCKETS_MAX = 256, 4096


@dataclass(frozen=True, slots=True)
class ComparedColumns:
    """The columns of a table. `key`: the columns of the primary key; all columns if there is none."""

    columns: Sequence[SourceColumn]

    @property
    def key(self) -> Sequence[SourceColumn]:
        return [column for column in self.columns if column.in_key] or self.columns


def mask_for(rows: int) -> Mask:
    wanted = 1 << (rows // ROWS_PER_BUCKET).bit_length()
    return Mask(min(max(wanted, BUCKETS_MIN), BUCKETS_MAX) - 1)


def query(name: str) -> SQL:
    return SQL(QUERIES[name])


# Represents a time that Postgres cannot store; no time has this length.
NO_TIME = b"\x00"

# In microseconds since 1970. For earlier times, microseconds since 2000 do not fit into a bigint.
LONG_AGO = "-9100000000000000000"
BOOLEAN = r"CASE WHEN {value} THEN '\x01'::BLOB WHEN NOT {value} THEN '\x00'::BLOB END"
TIMESTAMP = f"""CASE WHEN {{value}} < make_timestamp({LONG_AGO}) OR {{value}} = 'infinity' THEN {{no_time}}
    ELSE (epoch_us({{value}}) - 946684800000000)::BIT::BLOB END"""
DATE = """CASE WHEN {value} < DATE '5000-01-01 (BC)' THEN {no_time}
    ELSE ({value} - DATE '2000-01-01')::INTEGER::BIT::BLOB END"""
FRACTION = """encode(CASE WHEN {value} < 0 THEN '-0' || substr({value}::VARCHAR, 2)
    ELSE '0' || {value}::VARCHAR END)"""  # DuckDB writes .50 if a decimal has no digits before the point


@dataclass(frozen=True, slots=True)
class RowEncoding:
    """The encoding of one type. `oid`, `array_oid`: in pg_type. `postgres`: the cast in Postgres.
    `duckdb_type`: the required type in the files. `duckdb`: the expression for the bytes in DuckDB. `width`:
    in bytes; None if it varies."""

    oid: int
    array_oid: int
    postgres: str
    duckdb_type: str
    duckdb: str
    width: int | None = None


TEXT = RowEncoding(25, 1009, "{}::pg_catalog.text", "VARCHAR", "encode({value})")

ROW_ENCODINGS: dict[str, RowEncoding] = {
    "bool": RowEncoding(16, 1000, "{}::pg_catalog.bool", "BOOLEAN", BOOLEAN, 1),
    "int2": RowEncoding(23, 1007, "{}::pg_catalog.int4", "INTEGER", "{value}::BIT::BLOB", 4),
    "int4": RowEncoding(23, 1007, "{}::pg_catalog.int4", "INTEGER", "{value}::BIT::BLOB", 4),
    "int8": RowEncoding(20, 1016, "{}::pg_catalog.int8", "BIGINT", "{value}::BIT::BLOB", 8),
    "float4": RowEncoding(700, 1021, "{}::pg_catalog.float4", "FLOAT", "{value}::BIT::BLOB", 4),
    "float8": RowEncoding(701, 1022, "{}::pg_catalog.float8", "DOUBLE", "{value}::BIT::BLOB", 8),
    "text": TEXT,
    "varchar": TEXT,
    "name": TEXT,
    # a cast to text drops the padding
    "bpchar": RowEncoding(1042, 1014, "{}::pg_catalog.bpchar", "VARCHAR", TEXT.duckdb),
    "uuid": TEXT,
    "bytea": RowEncoding(17, 1001, "{}::pg_catalog.bytea", "BLOB", "{value}"),
    "date": RowEncoding(1082, 1182, "{}::pg_catalog.date", "DATE", DATE),
    "time": RowEncoding(1083, 1183, "{}::pg_catalog.time", "TIME", "epoch_us({value})::BIT::BLOB", 8),
    "timestamp": RowEncoding(1114, 1115, "{}::pg_catalog.timestamp", "TIMESTAMP", TIMESTAMP),
    "timestamptz": RowEncoding(
        1184,
        1185,
        "{}::pg_catalog.timestamptz",
        "TIMESTAMP WITH TIME ZONE",
        TIMESTAMP.replace("make_timestamp", "make_timestamptz"),
    ),
}


def encoding_of(column: SourceColumn) -> RowEncoding:
    if column.is_enum:
        return TEXT
    if pa.types.is_decimal(column.arrow_type):
        precision, scale = column.arrow_type.precision, column.arrow_type.scale
        written = FRACTION if precision == scale else "encode({value}::VARCHAR)"
        # With as many digits after the point as the decimal has, and more if the decimal cannot have them.
        postgres = f"(trim_scale({{}}) + '{Decimal(0).scaleb(-scale):f}')::pg_catalog.text"
        duckdb_type = f"DECIMAL({precision},{scale})"
        return RowEncoding(TEXT.oid, TEXT.array_oid, postgres, duckdb_type, written)
    return ROW_ENCODINGS[column.pg_type]


RECORD, RECORD_ARRAY = 2249, 2287  # oids


def duckdb_type_of(column: SourceColumn) -> str:
    """The type that the column has in the files."""
    if pa.types.is_list(column.arrow_type):
        return f"{duckdb_type_of(column.parts[0])}[]"
    if pa.types.is_struct(column.arrow_type):
        fields = (f"{_quoted(part.name)} {duckdb_type_of(part)}" for part in column.parts)
        return f"STRUCT({', '.join(fields)})"
    return encoding_of(column).duckdb_type


def _quoted(name: str) -> str:
    return Identifier(name).as_string(None)


def postgres_record(columns: Sequence[SourceColumn]) -> Composed:
    """The bytes of these columns in Postgres, for a query with parameters, in which % is doubled."""
    doubled = [
        (replace(column, converted=column.converted.replace("%", "%%")), _doubled(column))
        for column in columns
    ]
    values = (_postgres_value(column, column.sent(name)) for column, name in doubled)
    return SQL("record_send(ROW({}))").format(SQL(", ").join(values))


def _doubled(column: SourceColumn) -> Identifier:
    return Identifier(column.name.replace("%", "%%"))


def _postgres_value(column: SourceColumn, value: Composable, depth: int = 0) -> Composable:
    if pa.types.is_list(column.arrow_type):
        (element,) = column.parts
        # `unnest` of composites makes no difference between a NULL and a row of NULLs.
        is_struct = pa.types.is_struct(element.arrow_type)
        name = Identifier(f"item {depth}")
        item = SQL("({})[{}]").format(value, name) if is_struct else name
        return SQL(QUERIES["postgres_structs" if is_struct else "postgres_list"]).format(
            value=value, name=name, item=_postgres_value(element, item, depth + 1)
        )
    if pa.types.is_struct(column.arrow_type):
        fields = (
            _postgres_value(part, SQL("({}).{}").format(value, _doubled(part)), depth)
            for part in column.parts
        )
        row = SQL(", ").join(fields)
        return SQL("CASE WHEN {} IS DISTINCT FROM NULL THEN ROW({}) END").format(value, row)
    return SQL(encoding_of(column).postgres).format(value)


def duckdb_record(columns: Sequence[SourceColumn]) -> Composable:
    """The bytes of these columns in DuckDB."""
    return _duckdb_record([(column, Identifier(column.name)) for column in columns])


def _duckdb_record(columns: Sequence[tuple[SourceColumn, Composable]], depth: int = 0) -> Composable:
    framed = (_framed(column, value, depth) for column, value in columns)
    return _joined([_blob(_int32(len(columns))), *framed])


def _framed(column: SourceColumn, value: Composable, depth: int) -> Composed:
    """The type, the length and the bytes of a value."""
    oid, _, _ = _oids_and_width(column)
    return _sized(column, value, depth, _int32(oid))


def _sized(column: SourceColumn, value: Composable, depth: int, head: bytes = b"") -> Composed:
    """`head`, the length and the bytes of a value."""
    *_, width = _oids_and_width(column)
    found = _duckdb_value(column, value, depth)
    if width is not None:
        sized = SQL("{} || {}").format(_blob(head + _int32(width)), found)
    else:
        size = SQL("octet_length({})::INTEGER::BIT::BLOB").format(found)
        sized = SQL("{} || {} || {}").format(_blob(head), size, found)
    return SQL("coalesce({}, {})").format(sized, _blob(head + _int32(-1)))


def _duckdb_value(column: SourceColumn, value: Composable, depth: int) -> Composable:
    if pa.types.is_list(column.arrow_type):
        (element,) = column.parts
        item = Identifier(f"item {depth}")
        oid, _, _ = _oids_and_width(element)
        return SQL(QUERIES["lake_list"]).format(
            value=value, item=item, oid=_blob(_int32(oid)), sized=_sized(element, item, depth + 1)
        )
    if pa.types.is_struct(column.arrow_type):
        fields = [
            (part, SQL("struct_extract({}, {})").format(value, Literal(part.name))) for part in column.parts
        ]
        return SQL("CASE WHEN {} IS NOT NULL THEN {} END").format(value, _duckdb_record(fields, depth))
    return SQL(encoding_of(column).duckdb).format(value=value, no_time=_blob(NO_TIME))


def _oids_and_width(column: SourceColumn) -> tuple[int, int, int | None]:
    """The oid of the type in Postgres, and of an array of it."""
    if pa.types.is_struct(column.arrow_type):
        return RECORD, RECORD_ARRAY, None
    if pa.types.is_list(column.arrow_type):
        return _oids_and_width(column.parts[0])[1], 0, None
    encoding = encoding_of(column)
    return encoding.oid, encoding.array_oid, encoding.width


def _joined(parts: Sequence[Composable]) -> Composable:
    """Concatenate recursively in halves: from left to right, each step would copy all previous columns."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return SQL("({} || {})").format(_joined(parts[:half]), _joined(parts[half:]))


def _blob(content: bytes) -> SQL:
    escaped = "".join(f"\\x{byte:02X}" for byte in content)
    return SQL(f"'{escaped}'::BLOB")


def _int32(number: int) -> bytes:
    return number.to_bytes(4, "big", signed=True)


MICROSECONDS = timedelta(microseconds=1)


def values_of(record: bytes) -> list[bytes | None]:
    """The bytes of each value of a record; None for NULL."""
    (count,) = struct.unpack_from(">i", record)
    values: list[bytes | None] = []
    at = 4
    for _ in range(count):
        (size,) = struct.unpack_from(">i", record, at + 4)  # after the type
        at += 8
        values.append(None if size < 0 else record[at : at + size])
        at += max(size, 0)
    return values


def key_shown(columns: Sequence[SourceColumn], record: bytes) -> tuple[str, ...]:
    """The key's values as text; strings without quotes, so that they can be searched for."""
    return tuple(
        _text(value) if value is not None and _is_text(column) else shown(column, value)
        for column, value in zip(columns, values_of(record), strict=True)
    )


def shown(column: SourceColumn, value: bytes | None) -> str:
    """A value as text. Different values have different texts: strings are quoted, floats have their bits."""
    if value is None:
        return "NULL"
    if column.parts:
        return _nested_shown(column, value)
    match column.pg_type:
        case _ if _is_text(column):
            return repr(_text(value))
        case "bool":
            return str(value != b"\x00").lower()
        case "int2" | "int4" | "int8":
            return str(int.from_bytes(value, "big", signed=True))
        case "float4" | "float8":
            (number,) = struct.unpack(">f" if len(value) == 4 else ">d", value)
            return f"{number!r} (0x{value.hex()})"
        case "bytea":
            return f"\\x{value.hex()}"
        case "time":
            return str(timedelta(microseconds=int.from_bytes(value, "big")))
        case "date" | "timestamp" | "timestamptz":
            return _time(column, value)
        case _:  # uuid, numeric
            return _text(value)


def _nested_shown(column: SourceColumn, value: bytes) -> str:
    if pa.types.is_struct(column.arrow_type):
        found = zip(column.parts, values_of(value), strict=True)
        return "({})".format(", ".join(f"{part.name}: {shown(part, field)}" for part, field in found))
    items: list[bytes | None] = []
    at = 20
    while at < len(value):
        (size,) = struct.unpack_from(">i", value, at)
        at += 4
        items.append(None if size < 0 else value[at : at + size])
        at += max(size, 0)
    return "[{}]".format(", ".join(shown(column.parts[0], item) for item in items))


def _is_text(column: SourceColumn) -> bool:
    return column.is_enum or column.pg_type in ("text", "varchar", "bpchar", "name")


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _time(column: SourceColumn, value: bytes) -> str:
    if value == NO_TIME:
        return "a time that Postgres cannot store"
    since_2000 = int.from_bytes(value, "big", signed=True)
    limit = 1 << (8 * len(value) - 1)
    if since_2000 in (limit - 1, -limit):
        return "infinity" if since_2000 > 0 else "-infinity"
    try:
        if column.pg_type == "date":
            return (date(2000, 1, 1) + timedelta(days=since_2000)).isoformat()
        wall = (datetime(2000, 1, 1) + since_2000 * MICROSECONDS).isoformat(" ", "microseconds")
        return f"{wall}+00" if column.pg_type == "timestamptz" else wall
    except OverflowError:  # before year 1, or after 9999
        return f"{since_2000} {'days' if column.pg_type == 'date' else 'µs'} since 2000"
