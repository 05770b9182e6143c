"""The Arrow type of each Postgres type. Every mapping is exact.

    Postgres                      Arrow               in the file
    boolean, int4/8, float4/8     the same            the same (int2 as int32)
    text, varchar, enum           string              string (an enum is dictionary-encoded)
    uuid                          string              36 characters
    timestamptz, timestamp        timestamp[us, UTC]  microseconds; [us] without a zone
    date, bytea                   date32, binary
    numeric(p, s), p ≤ 38         decimal128(p, s)

The schema is read from the Postgres catalog and declared nowhere else, so the two cannot differ.
A uuid is stored as text: only then does `WHERE request_id = '0197…'` have the same result in Postgres,
DuckDB, Polars and any Iceberg reader. zstd removes most of the overhead of the hexadecimal digits. A type
that is not in this table is rejected: values are never rounded.
"""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow

from lakehouse.table.epoch import quote_identifier
from ridelake.errors import BadInput
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.table")

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
DECIMAL_DIGITS_MAX = 38  # the limit of decimal128 and of Iceberg


class TableNotCopied(BadInput):
    """No table could be copied to the lake; the next sync retries."""


class UnsupportedValue(TableNotCopied):
    """A value of `column` has no exact representation in the lake. `what`: the value as text."""

    def __init__(self, column: str, what: str, where: str = "") -> None:
        self.column, self.what = column, what
        super().__init__(
            f"column {column} contains {what}{where}, which the lake cannot store: change that value, or "
            f"exclude the column with --without-column TABLE.COLUMN"
        )


# Unqualified name of a type in pg_catalog → Arrow. The name of any other type has its schema.
ARROW_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int32(),  # the smallest integer type of Iceberg
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "text": pa.string(),
    "varchar": pa.string(),
    "bpchar": pa.string(),
    "name": pa.string(),
    "uuid": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": UTC_MICROSECONDS,
}


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """One column. `pg_type`: the base type, without schema if it is built in. `declared`: the declared type.
    `arrow_type`: its type in the lake. `labels`: of an enum. `altered`: changes with each ALTER of the
    column."""

    name: str
    pg_type: str
    arrow_type: pa.DataType
    nullable: bool = True
    in_key: bool = False
    is_enum: bool = False
    declared: str = ""
    labels: tuple[str, ...] = ()
    altered: str = ""


def read_columns(
    connection: Connection[TupleRow],
    relations: Sequence[int],
    without: Collection[tuple[int, str]] = (),
) -> dict[int, list[SourceColumn]]:
    """The columns of the tables with those oids, in the table's order. `without`: columns to exclude, by oid
    and name. Raises BadInput that lists every column whose type the lake cannot store."""
    query = QUERIES["columns"]
    columns: dict[int, list[SourceColumn]] = {relation: [] for relation in relations}
    refused: list[tuple[str, str]] = []
    for (
        relation, name, declared, pg_type, is_enum, precision_scale, not_null, in_key, table, altered, found,
    ) in connection.execute(query, {"relations": list(relations)}).fetchall():  # fmt: skip
        if (relation, name) in without:
            continue
        arrow_type = pa.string() if is_enum else arrow_type_of(pg_type, cast(int | None, precision_scale))
        if arrow_type is None:
            refused.append((f"{table}.{quote_identifier(name)}", declared))
            continue
        labels = tuple(found or ())
        columns[relation].append(
            SourceColumn(name, pg_type, arrow_type, not not_null, in_key, is_enum, declared, labels, altered)
        )
    if refused:
        raise BadInput(
            f"the lake cannot store {', '.join(f'column {name} of type {type_}' for name, type_ in refused)} "
            "exactly: change the type to one that docs/lake.md lists, or exclude the column with "
            + " ".join(f"--without-column {shlex.quote(name)}" for name, _ in refused)
        )
    return columns


def arrow_type_of(pg_type: str, precision_scale: int | None = None) -> pa.DataType | None:
    """The Arrow type; None if there is no exact one. `precision_scale`: the type modifier of numeric minus 4,
    which has the precision in the upper 16 bits and the scale in the lower ones."""
    if pg_type != "numeric":
        return ARROW_TYPES.get(pg_type)
    if precision_scale is None:
        return None
    precision, scale = precision_scale >> 16, precision_scale & 0x7FF
    fits = precision <= DECIMAL_DIGITS_MAX and scale <= precision  # a negative scale has its high bit set
    return pa.decimal128(precision, scale) if fits else None


def arrow_schema(columns: Sequence[SourceColumn]) -> pa.Schema:
    return pa.schema([pa.field(column.name, column.arrow_type, column.nullable) for column in columns])
