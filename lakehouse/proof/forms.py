"""The bytes of a row, which both engines compute, each in its own SQL.

    record = int32 columns │ int32 type, int32 length, bytes │ int32 type, int32 length, bytes │ …

A length of -1 is a NULL. Postgres computes the bytes with record_send, DuckDB concatenates them. Types that
the lake stores as text (uuid, enum) or as a decimal are compared as text, so that an implicit conversion of a
reader cannot hide a difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from psycopg.sql import SQL, Composable, Composed, Identifier

from lakehouse.columns import Column

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
class Form:
    """The encoding of one type. `oid`: in pg_type. `postgres`: the cast in Postgres. `duckdb_type`: the
    required type in the files. `duckdb`: the expression for the bytes in DuckDB. `width`: in bytes; None if
    it varies."""

    oid: int
    postgres: str
    duckdb_type: str
    duckdb: str
    width: int | None = None


TEXT = Form(25, "{}::pg_catalog.text", "VARCHAR", "encode({value})")

FORMS: dict[str, Form] = {
    "bool": Form(16, "{}::pg_catalog.bool", "BOOLEAN", BOOLEAN, 1),
    "int2": Form(23, "{}::pg_catalog.int4", "INTEGER", "{value}::BIT::BLOB", 4),
    "int4": Form(23, "{}::pg_catalog.int4", "INTEGER", "{value}::BIT::BLOB", 4),
    "int8": Form(20, "{}::pg_catalog.int8", "BIGINT", "{value}::BIT::BLOB", 8),
    "float4": Form(700, "{}::pg_catalog.float4", "FLOAT", "{value}::BIT::BLOB", 4),
    "float8": Form(701, "{}::pg_catalog.float8", "DOUBLE", "{value}::BIT::BLOB", 8),
    "text": TEXT,
    "varchar": TEXT,
    "name": TEXT,
    "bpchar": Form(1042, "{}::pg_catalog.bpchar", "VARCHAR", TEXT.duckdb),  # a cast to text drops the padding
    "uuid": TEXT,
    "bytea": Form(17, "{}::pg_catalog.bytea", "BLOB", "{value}"),
    "date": Form(1082, "{}::pg_catalog.date", "DATE", DATE),
    "timestamp": Form(1114, "{}::pg_catalog.timestamp", "TIMESTAMP", TIMESTAMP),
    "timestamptz": Form(
        1184,
        "{}::pg_catalog.timestamptz",
        "TIMESTAMP WITH TIME ZONE",
        TIMESTAMP.replace("make_timestamp", "make_timestamptz"),
    ),
}


def form_of(column: Column) -> Form:
    if column.is_enum:
        return TEXT
    if pa.types.is_decimal(column.arrow_type):
        precision, scale = column.arrow_type.precision, column.arrow_type.scale
        written = FRACTION if precision == scale else "encode({value}::VARCHAR)"
        return Form(TEXT.oid, TEXT.postgres, f"DECIMAL({precision},{scale})", written)
    return FORMS[column.pg_type]


def postgres_record(columns: Sequence[Column]) -> Composed:
    """The bytes of these columns in Postgres, for a query with parameters, in which % is doubled."""
    values = [
        SQL(form_of(column).postgres).format(Identifier(column.name.replace("%", "%%"))) for column in columns
    ]
    return SQL("record_send(ROW({}))").format(SQL(", ").join(values))


def duckdb_record(columns: Sequence[Column]) -> Composable:
    """The bytes of these columns in DuckDB."""
    return _joined([_blob(_int32(len(columns))), *(_framed(column) for column in columns)])


def _framed(column: Column) -> Composed:
    form, name = form_of(column), Identifier(column.name)
    value = SQL(form.duckdb).format(value=name, no_time=_blob(NO_TIME))
    if form.width is not None:
        sized = SQL("{} || {}").format(_blob(_int32(form.oid) + _int32(form.width)), value)
    else:
        size = SQL("octet_length({})::INTEGER::BIT::BLOB").format(value)
        sized = SQL("{} || {} || {}").format(_blob(_int32(form.oid)), size, value)
    return SQL("coalesce({}, {})").format(sized, _blob(_int32(form.oid) + _int32(-1)))


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
