"""The Arrow type of each Postgres type. Every mapping is exact; docs/types.md lists them.

A type with an exact Arrow type is copied in Postgres' binary format. A type with an exact equivalent in
another Postgres type is converted by the server: money to numeric, oid and the types of names (regclass …)
to bigint. Of any other type (json, interval, arrays, composites, types of extensions …) the lake has
Postgres' own text: the server calls the output function of the type, with the session settings of
`oltp.connection.SESSION_SETTINGS`, so the text does not depend on other settings.

The schema is read from the Postgres catalog and declared nowhere else, so the two cannot differ.
A uuid is stored as text: only then does `WHERE request_id = '0197…'` have the same result in Postgres,
DuckDB, Polars and any Iceberg reader. zstd removes most of the overhead of the hexadecimal digits.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composable

from lakehouse.table.epoch import Infinity
from ridelake.errors import BadInput
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.table")

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
DECIMAL_DIGITS_MAX = 38  # the limit of decimal128 and of Iceberg


class TableNotCopied(BadInput):
    """No table could be copied to the lake; the next sync retries."""


class RowsNotComputed(TableNotCopied):
    """The server cannot compute the rows of `table`, for example because the query of a view divides by zero.
    `why`: its message."""

    def __init__(self, table: str, why: str) -> None:
        super().__init__(
            f"Postgres cannot compute the rows of {table} ({why}): correct its definition, or the rows that "
            "it reads"
        )


class UnsupportedValue(TableNotCopied):
    """A value of `column` has no exact representation in the lake. `what`: the value as text. `in_key`:
    whether the column is in the primary key."""

    def __init__(self, column: str, what: str, where: str = "", *, in_key: bool = False) -> None:
        self.column, self.what = column, what
        others = ", store NULL instead with --infinity null, or exclude the column with --without-column "
        advice = "change that value" + ("" if in_key else f"{others}TABLE.COLUMN")
        super().__init__(f"column {column} contains {what}{where}, which the lake cannot store: {advice}")


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
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": UTC_MICROSECONDS,
}


# Types of names, which change with the named object. The lake has their oid, which does not.
NAME_TYPES = (
    "regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator",
    "regproc", "regprocedure", "regrole", "regtype",
)  # fmt: skip

# Type → the expression that converts it, and the type of the result. `{value}`: the column.
CONVERTED: dict[str, tuple[str, str]] = {
    "oid": ("{value}::pg_catalog.int8", "int8"),
    "money": ("{value}::pg_catalog.numeric", "numeric"),
    **dict.fromkeys(NAME_TYPES, ("{value}::pg_catalog.oid::pg_catalog.int8", "int8")),
}
# Type → the expression that replaces its values without an exact form by NULL (`--infinity null`).
FINITE = {
    "date": "CASE WHEN pg_catalog.isfinite({value}) THEN {value} END",
    "time": "nullif({value}, '24:00')",
    "timestamp": "CASE WHEN pg_catalog.isfinite({value})"
    " AND {value} <= '294247-01-10 04:00:54.775807' THEN {value} END",
    "timestamptz": "CASE WHEN pg_catalog.isfinite({value})"
    " AND {value} <= '294247-01-10 04:00:54.775807+00' THEN {value} END",
    "numeric": "nullif({value}, 'NaN')",
}
MONEY_DIGITS = 19  # of the greatest 64-bit integer


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """One column. `pg_type`: the type that COPY sends, the column's base type unless the server converts it;
    without schema if it is built in. `declared`: the declared type. `arrow_type`: its type in the lake.
    `labels`: of an enum. `altered`: changes with each ALTER of the column, or of a type that its type is made
    of. `converted`: the expression that the server converts it with, of `{value}`; empty if it does not.
    `base_type`: the base type as SQL, if `pg_type` is another one. `is_recorded`: whether a tombstone can
    have its value."""

    name: str
    pg_type: str
    arrow_type: pa.DataType
    nullable: bool = True
    in_key: bool = False
    is_enum: bool = False
    declared: str = ""
    labels: tuple[str, ...] = ()
    altered: str = ""
    converted: str = ""
    base_type: str = ""
    is_recorded: bool = True

    def sent(self, value: Composable) -> Composable:
        """The expression that the server sends for a value of the column's base type."""
        return SQL(self.converted).format(value=value) if self.converted else value


def read_columns(
    connection: Connection[TupleRow],
    relations: Sequence[int],
    without: Collection[tuple[int, str]] = (),
    infinity: Infinity = "refuse",
    keys: Mapping[int, Collection[str]] | None = None,
) -> dict[int, list[SourceColumn]]:
    """The columns of the tables with those oids, in the table's order. `without`: columns to exclude, by oid
    and name. `infinity`: what to select instead of a value without an exact form; a value of the key is
    never replaced. `keys`: the columns of the key by oid; None: of the primary key."""
    columns: dict[int, list[SourceColumn]] = {relation: [] for relation in relations}
    types: dict[tuple[int, int], int] = {}  # oids, by the relation and the place of the column
    for (
        relation, name, declared, pg_type, is_enum, precision_scale, not_null, in_key, altered, labels,
        base_type, output, argument, money_scale, type_oid,
    ) in connection.execute(QUERIES["columns"], {"relations": list(relations)}).fetchall():  # fmt: skip
        if (relation, name) in without:
            continue
        in_key = in_key if keys is None else name in keys[relation]
        converted = ""
        arrow_type = pa.string() if is_enum else arrow_type_of(pg_type, cast(int | None, precision_scale))
        if arrow_type is None:
            converted, pg_type = conversion_of(pg_type, argument, output)
            arrow_type = (
                pa.decimal128(MONEY_DIGITS, money_scale) if pg_type == "numeric" else ARROW_TYPES[pg_type]
            )
            types[relation, len(columns[relation])] = type_oid
        elif infinity == "null" and not in_key and pg_type in FINITE:
            converted, not_null = FINITE[pg_type], False
        columns[relation].append(
            SourceColumn(
                name, pg_type, arrow_type, not not_null, in_key, is_enum, declared, tuple(labels or ()),
                altered, converted, base_type if converted else "",
            )
        )  # fmt: skip
    if types:
        query = QUERIES["type_definitions"]
        found = connection.execute(query, {"types": list({*types.values()})}).fetchall()
        definitions = {type_oid: definition for type_oid, *definition in found}
        for (relation, place), type_oid in types.items():
            column, (definition, is_recorded) = columns[relation][place], definitions[type_oid]
            altered = f"{column.altered} {column.converted} {definition}"
            columns[relation][place] = replace(column, altered=altered, is_recorded=is_recorded)
    return columns


def conversion_of(pg_type: str, argument: str, output: str) -> tuple[str, str]:
    """The expression that converts a value of a type without an Arrow type, and the type of the result.
    `output`: the output function of the type. `argument`: what a value is cast to, to call it."""
    if pg_type in CONVERTED:
        return CONVERTED[pg_type]
    if pg_type.startswith("_") and pg_type[1:] in NAME_TYPES:
        argument = "pg_catalog._oid"
    # Not a cast to text: a user may have created one, and that of inet adds a mask.
    function, type_ = (name.replace("{", "{{").replace("}", "}}") for name in (output, argument))
    return f"pg_catalog.textin({function}({{value}}::{type_}))", "text"


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
