"""The Arrow type of each Postgres type. Every mapping is exact; docs/types.md lists them.

A type with an exact Arrow type is copied in Postgres' binary format. A type with an exact equivalent in
another Postgres type is converted by the server: money to numeric, oid and the types of names (regclass …)
to bigint. A user can choose the form of numeric without precision, of arrays and of composites
(`ValueForms`). Of any other type (json, interval, types of extensions …) the lake has Postgres' own text: the
server calls the output function of the type, with the session settings of
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
from psycopg.sql import SQL, Composable, Identifier

from lakehouse.table.epoch import DECIMAL_DIGITS_MAX, DEFAULT_FORMS, ValueForms
from ridelake.errors import BadInput
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.table")

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
NULL_INSTEAD = "store NULL instead with --infinity null"


class TableNotCopied(BadInput):
    """No table could be copied to the lake; the next sync retries."""


class RowsNotComputed(TableNotCopied):
    """The server cannot compute the rows of `table`, for example because the query of a view divides by zero.
    `why`: its message. `sqlstate`: its code. `is_locked`: it can be computed once another session has ended
    its transaction."""

    def __init__(self, table: str, why: str, sqlstate: str = "") -> None:
        self.is_locked = sqlstate == "55P03"
        known = (advice for begin, advice in ADVICE.items() if sqlstate.startswith(begin))
        advice = next(known, "correct its definition, or the rows that it reads")
        super().__init__(f"Postgres cannot compute the rows of {table} ({why}): {advice}")


# What to do about an error of the server, by the begin of its SQLSTATE.
ADVICE = {
    "08": "check its foreign server",
    "42501": "grant the privilege, to this role or to the owner of the view",
    "55000": "if it is a materialized view, run REFRESH MATERIALIZED VIEW",
    "55P03": "it is copied when that session has ended its transaction",
}


class UnsupportedValue(TableNotCopied):
    """A value of `column` has no exact representation in the lake. `what`: the value as text, or the reason.
    `instead`: what else can be done if the column is not in the primary key (`in_key`)."""

    def __init__(
        self, column: str, what: str, where: str = "", *, in_key: bool = False, instead: str = NULL_INSTEAD
    ) -> None:
        self.column, self.what = column, what
        others = f", {instead}, or exclude the column with --without-column TABLE.COLUMN"
        advice = "change that value" + ("" if in_key else others)
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
# Type → the condition of the values that have an exact form. `--infinity null` replaces the others by NULL.
FINITE = {
    "date": "pg_catalog.isfinite({value})",
    "time": "{value} < '24:00'",
    "timestamp": "pg_catalog.isfinite({value}) AND {value} <= '294247-01-10 04:00:54.775807'",
    "timestamptz": "pg_catalog.isfinite({value}) AND {value} <= '294247-01-10 04:00:54.775807+00'",
    "numeric": "{value} NOT IN ('NaN', 'Infinity', '-Infinity')",
}
# The condition of a numeric that fits into a decimal, of an array that is a list, and of one whose elements
# have an exact form.
HAS_DIGITS = "scale(trim_scale({value})) <= {scale} AND abs({value}) < {most}::pg_catalog.numeric"
IS_LIST = "coalesce(array_ndims({value}) = 1 AND array_lower({value}, 1) = 1, true)"
# An array of composites is unnested to their attributes, so the alias must not be the name of one.
ELEMENT = "ridelake element"
HAS_HELD = "{is_list} AND NOT EXISTS (SELECT FROM unnest({value}) AS {element} WHERE ({held}) IS FALSE)"
MONEY_DIGITS = 19  # of the greatest 64-bit integer


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """One column. `pg_type`: the type that COPY sends, the column's base type unless the server converts it;
    without schema if it is built in. `declared`: the declared type. `arrow_type`: its type in the lake.
    `labels`: of an enum. `altered`: changes with each ALTER of the column, or of a type that its type is made
    of. `converted`: the expression that the server converts it with, of `{value}`; empty if it does not.
    `base_type`: the base type as SQL, if `pg_type` is another one. `is_recorded`: whether a tombstone can
    have its value. `parts`: of a list, its element; of a struct, its attributes."""

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
    parts: "tuple[SourceColumn, ...]" = ()

    def sent(self, value: Composable) -> Composable:
        """The expression that the server sends for a value of the column's base type."""
        return SQL(self.converted).format(value=value) if self.converted else value

    def is_held(self, value: Composable) -> Composable | None:
        """The condition that the lake can store a value of the column's base type; None if it can store
        each."""
        if pa.types.is_struct(self.arrow_type):
            attributes = ((part, SQL("({}).{}").format(value, Identifier(part.name))) for part in self.parts)
            found = [held for part, of in attributes if (held := part.is_held(of)) is not None]
            return (
                SQL(" AND ").join(SQL("({}) IS NOT FALSE").format(held) for held in found) if found else None
            )
        if pa.types.is_list(self.arrow_type):
            (element,) = self.parts
            is_list = SQL(IS_LIST).format(value=value)
            name = Identifier(ELEMENT)
            held = element.is_held(name)
            if held is None:
                return is_list
            return SQL(HAS_HELD).format(is_list=is_list, value=value, element=name, held=held)
        if self.pg_type not in FINITE:
            return None
        held = SQL(FINITE[self.pg_type]).format(value=value)
        if not pa.types.is_decimal(self.arrow_type):
            return held
        precision, scale = self.arrow_type.precision, self.arrow_type.scale
        bounds = {"value": value, "scale": SQL(str(scale)), "most": SQL(f"'1e{precision - scale}'")}
        return SQL(" AND ").join([held, SQL(HAS_DIGITS).format(**bounds)])


def read_columns(
    connection: Connection[TupleRow],
    relations: Sequence[int],
    without: Collection[tuple[int, str]] = (),
    forms: ValueForms = DEFAULT_FORMS,
    keys: Mapping[int, Collection[str]] | None = None,
) -> dict[int, list[SourceColumn]]:
    """The columns of the tables with those oids, in the table's order. `without`: columns to exclude, by oid
    and name. `forms`: the chosen forms of values; a value of the key is never replaced by NULL, and never a
    list or a struct. `keys`: the columns of the key by oid; None: of the primary key."""
    columns: dict[int, list[SourceColumn]] = {relation: [] for relation in relations}
    types: dict[tuple[int, int], int] = {}  # oids, by the relation and the place of the column
    described = connection.execute(QUERIES["columns"], {"relations": list(relations)}).fetchall()
    parts = read_parts(connection, [row[-2] for row in described]) if forms.nested == "typed" else {}
    for (
        relation, name, declared, pg_type, is_enum, precision_scale, not_null, in_key, altered, labels,
        base_type, output, argument, money_scale, type_oid, modifier,
    ) in described:  # fmt: skip
        if (relation, name) in without:
            continue
        in_key = in_key if keys is None else name in keys[relation]
        column = SourceColumn(
            name, pg_type, pa.string(), not not_null, in_key, is_enum, declared, tuple(labels or ()), altered
        )
        bounds = cast(int | None, precision_scale)
        arrow_type = pa.string() if is_enum else arrow_type_of(pg_type, bounds, forms)
        nested = None if in_key or arrow_type else parts_of(parts, type_oid, modifier, forms)
        if nested is not None:
            column = replace(column, arrow_type=nested.arrow_type, parts=nested.parts)
        elif arrow_type is not None:
            column = replace(column, arrow_type=arrow_type)
            if forms.infinity == "null" and not in_key and pg_type in FINITE:
                converted = f"CASE WHEN {FINITE[pg_type]} THEN {{value}} END"
                column = replace(column, converted=converted, base_type=base_type, nullable=True)
        else:
            converted, sent = conversion_of(pg_type, argument, output)
            arrow_type = pa.decimal128(MONEY_DIGITS, money_scale) if sent == "numeric" else ARROW_TYPES[sent]
            column = replace(
                column, pg_type=sent, arrow_type=arrow_type, converted=converted, base_type=base_type
            )
        if nested is not None or (column.converted and column.pg_type != pg_type):
            types[relation, len(columns[relation])] = type_oid
        columns[relation].append(column)
    if types:
        query = QUERIES["type_definitions"]
        found = connection.execute(query, {"types": list({*types.values()})}).fetchall()
        definitions = {type_oid: definition for type_oid, *definition in found}
        for (relation, place), type_oid in types.items():
            column, (definition, is_recorded) = columns[relation][place], definitions[type_oid]
            form = column.converted or column.arrow_type
            altered = f"{column.altered} {form} {definition}"
            columns[relation][place] = replace(column, altered=altered, is_recorded=is_recorded)
    return columns


@dataclass(frozen=True, slots=True)
class TypeParts:
    """What a type is made of. `base`: oid and type modifier of a domain's base type. `element`: the oid of an
    array's element type. `attributes`: name, oid and type modifier of each attribute of a composite."""

    name: str
    is_enum: bool
    base: tuple[int, int] | None
    element: int | None
    attributes: Sequence[tuple[str, int, int]]


def read_parts(connection: Connection[TupleRow], types: Sequence[int]) -> dict[int, TypeParts]:
    """The parts of these types, and of their parts, by oid."""
    found = connection.execute(QUERIES["type_parts"], {"types": list({*types})}).fetchall()
    return {
        oid: TypeParts(name, is_enum, (base, modifier) if base else None, element, attributes)
        for oid, name, is_enum, base, modifier, element, attributes in found
    }


def parts_of(
    types: Mapping[int, TypeParts], oid: int, modifier: int, forms: ValueForms, name: str = "element"
) -> SourceColumn | None:
    """An array or a composite as a list or a struct, and a part of one as `name`. None if it has no exact
    form, or one of its parts has none, or a name of an attribute is not possible in every engine."""
    if oid not in types:
        return None
    type_ = types[oid]
    if type_.base:
        return parts_of(types, *type_.base, forms, name)
    if type_.element:
        element = parts_of(types, type_.element, modifier, forms)
        if element is None or pa.types.is_list(element.arrow_type):
            return None  # a list of lists cannot be compared: Postgres would join the inner arrays
        list_type = pa.list_(pa.field("element", element.arrow_type))
        return SourceColumn(name, type_.name, list_type, parts=(element,))
    if type_.attributes:
        names = {attribute.lower() for attribute, _, _ in type_.attributes}
        parts = [parts_of(types, of, bounds, forms, attribute) for attribute, of, bounds in type_.attributes]
        held = tuple(part for part in parts if part is not None)
        if len(held) < len(parts) or len(names) < len(parts) or any("." in one for one in names):
            return None
        struct = pa.struct([pa.field(part.name, part.arrow_type) for part in held])
        return SourceColumn(name, type_.name, struct, parts=held)
    bounds = modifier - 4 if type_.name == "numeric" and modifier >= 4 else None
    arrow_type = pa.string() if type_.is_enum else arrow_type_of(type_.name, bounds, forms)
    return None if arrow_type is None else SourceColumn(name, type_.name, arrow_type, is_enum=type_.is_enum)


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


def arrow_type_of(
    pg_type: str, precision_scale: int | None = None, forms: ValueForms = DEFAULT_FORMS
) -> pa.DataType | None:
    """The Arrow type; None if there is no exact one. `precision_scale`: the type modifier of numeric minus 4,
    which has the precision in the upper 16 bits and the scale in the lower ones."""
    if pg_type != "numeric":
        return ARROW_TYPES.get(pg_type)
    if precision_scale is not None:
        precision, scale = precision_scale >> 16, precision_scale & 0x7FF
        if precision <= DECIMAL_DIGITS_MAX and scale <= precision:  # a negative scale has its high bit set
            return pa.decimal128(precision, scale)
    return None if forms.numeric == "text" else pa.decimal128(*forms.numeric)


def arrow_schema(columns: Sequence[SourceColumn]) -> pa.Schema:
    return pa.schema([pa.field(column.name, column.arrow_type, column.nullable) for column in columns])
