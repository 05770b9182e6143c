"""Which Arrow type stands for which Postgres type, exactly.

    Postgres                      Arrow               in the file
    boolean, int4/8, float4/8     the same            the same (int2 as int32)
    text, varchar, enum           string              string (an enum's few words: a dictionary)
    uuid                          string              36 characters
    timestamptz, timestamp        timestamp[us, UTC]  microseconds; [us] without a zone
    date, bytea                   date32, binary
    numeric(p, s), p ≤ 38         decimal128(p, s)

The schema is read from the Postgres catalog and declared nowhere else, so that the two cannot disagree.
A uuid is text because that is the one form in which `WHERE request_id = '0197…'` means the same to
Postgres, DuckDB, Polars and any Iceberg reader; the hexadecimal half is random, and zstd takes the
other half away. A type that is not in this table is refused by name: nothing is rounded or guessed.
"""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import cast

import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow

from lakehouse.epoch import quoted
from ridelake.errors import BadInput

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
DECIMAL_DIGITS_MAX = 38  # of a decimal128, and of Iceberg


class TableNotTaken(BadInput):
    """No table could be taken; the next sync tries again."""


class ValueNotHeld(TableNotTaken):
    """A value of `column` has no exact form in the lake. `what`: the value in words."""

    def __init__(self, column: str, what: str, where: str = "") -> None:
        self.column, self.what = column, what
        super().__init__(
            f"column {column} holds {what}{where}, which the lake cannot hold: change that value, or leave "
            f"the column out with --without-column TABLE.COLUMN"
        )


# A type of pg_catalog, by its bare name → Arrow. Any other type has its schema in its name.
ARROW_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int32(),  # the smallest of Iceberg
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
class Column:
    """One column. `pg_type`: the base type, by its bare name if it is built in, else with its schema.
    `declared`: the type as it was declared. `arrow_type`: its type in the lake. `labels`: an enum's.
    `altered` changes with each ALTER of the column."""

    name: str
    pg_type: str
    arrow_type: pa.DataType
    nullable: bool = True
    in_key: bool = False
    is_enum: bool = False
    declared: str = ""
    labels: tuple[str, ...] = ()
    altered: str = ""

    @property
    def as_text(self) -> bool:
        """Whether COPY sends it as text: numeric's own binary form is not worth a parser of ours."""
        return self.pg_type == "numeric"


def read_columns(
    connection: Connection[TupleRow],
    relations: Sequence[int],
    without: Collection[tuple[int, str]] = (),
    *,
    any_type: bool = False,
) -> dict[int, list[Column]]:
    """The columns of the tables with those oids, each in its table's order; those in `without`, by oid and
    name, are left out. Raises BadInput that names every column whose type the lake cannot hold; with
    `any_type` these are left out too."""
    query = files("lakehouse").joinpath("columns.sql").read_bytes()
    columns: dict[int, list[Column]] = {relation: [] for relation in relations}
    refused: list[tuple[str, str]] = []
    for (
        relation, name, declared, pg_type, is_enum, precision_scale, not_null, in_key, table, altered, found,
    ) in connection.execute(query, {"relations": list(relations)}).fetchall():  # fmt: skip
        if (relation, name) in without:
            continue
        arrow_type = pa.string() if is_enum else arrow_type_of(pg_type, cast(int | None, precision_scale))
        if arrow_type is None:
            refused.append((f"{table}.{quoted(name)}", declared))
            continue
        labels = tuple(found or ())
        columns[relation].append(
            Column(name, pg_type, arrow_type, not not_null, in_key, is_enum, declared, labels, altered)
        )
    if refused and not any_type:
        raise BadInput(
            f"the lake cannot hold {', '.join(f'column {name} of type {type_}' for name, type_ in refused)} "
            "exactly: change the type to one that docs/lake.md lists, or leave the column out with "
            + " ".join(f"--without-column {shlex.quote(name)}" for name, _ in refused)
        )
    return columns


def arrow_type_of(pg_type: str, precision_scale: int | None = None) -> pa.DataType | None:
    """None for a type without an exact form. `precision_scale` is numeric's type modifier less 4: the
    precision in the upper sixteen bits, the scale in the lower ones."""
    if pg_type != "numeric":
        return ARROW_TYPES.get(pg_type)
    if precision_scale is None:
        return None
    precision, scale = precision_scale >> 16, precision_scale & 0x7FF
    fits = precision <= DECIMAL_DIGITS_MAX and scale <= precision  # a negative scale has its high bit set
    return pa.decimal128(precision, scale) if fits else None


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    return pa.schema([pa.field(column.name, column.arrow_type, column.nullable) for column in columns])
