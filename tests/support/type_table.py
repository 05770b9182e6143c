"""The table of docs/types.md, generated from the code: the form of each Postgres type in the lake."""

import re
from collections.abc import Iterator

import pyarrow as pa
from psycopg import Connection
from psycopg.sql import SQL, Identifier

from lakehouse.table.columns import SourceColumn, read_columns
from lakehouse.table.epoch import ValueForms
from lakehouse.table.metadata import iceberg_schema
from lakehouse.verify.row_encoding import encoding_of

# Types with a modifier, and types that a user creates: the declared type → its name in the table.
OTHERS = {
    "numeric(12, 3)": "numeric(p, s), p ≤ 38, 0 ≤ s ≤ p",
    "numeric(50, 2)": "numeric(p, s), otherwise",
    "integer[]": "an array",
    "type_table.pair": "a composite",
    "type_table.mood": "an enum",
    "type_table.mood[]": "an array of an enum",
    "type_table.span": "a range that a user has created",
}
CREATED = (
    "CREATE SCHEMA type_table",
    "CREATE TYPE type_table.pair AS (a int, b text)",
    "CREATE TYPE type_table.mood AS ENUM ('glad')",
    "CREATE TYPE type_table.span AS RANGE (subtype = float8)",
)
# Types in a form that the user chooses: the declared type → its name in the table.
CHOSEN = {
    "numeric": "numeric without precision, or otherwise, with `--numeric 38,9`",
    "integer[]": "an array of integer, with `--nested typed`",
    "type_table.pair": "a composite of integer and text, with `--nested typed`",
}
CHOSEN_FORMS = ValueForms(numeric=(38, 9), nested="typed")
NAMED = {"numeric": "numeric without precision"}
HEAD = "| Postgres | Arrow | Iceberg | in the lake | compared by `verify` as |\n|---|---|---|---|---|"


def type_table(connection: Connection, names: list[str]) -> str:
    """The table in Markdown. `names`: the types of pg_type. Rolls back what it creates."""
    with connection.transaction(force_rollback=True):
        for statement in CREATED:
            connection.execute(statement.encode())
        declared = [*names, *OTHERS, *CHOSEN]
        definitions = SQL(", ").join(
            SQL("{} {}").format(Identifier(f"c{n}"), SQL(name)) for n, name in enumerate(declared)
        )
        connection.execute(SQL("CREATE TABLE type_table.t ({})").format(definitions))
        row = connection.execute("SELECT 'type_table.t'::regclass::oid::bigint").fetchone()
        assert row is not None
        plain = read_columns(connection, [row[0]])[row[0]][: -len(CHOSEN)]
        chosen = read_columns(connection, [row[0]], forms=CHOSEN_FORMS)[row[0]][-len(CHOSEN) :]
    grouped: dict[tuple[str, ...], list[str]] = {}
    for place, (name, column) in enumerate(zip(declared, [*plain, *chosen], strict=True)):
        shown = CHOSEN[name] if place >= len(plain) else OTHERS.get(name) or NAMED.get(name, name)
        grouped.setdefault(tuple(_described(column)), []).append(shown)
    rows = [f"| {', '.join(group)} | {' | '.join(forms)} |" for forms, group in grouped.items()]
    return "\n".join([HEAD, *sorted(rows, key=len)])


def _described(column: SourceColumn) -> Iterator[str]:
    """The cells of a row: the Arrow type, the Iceberg type, the stored form, and the compared form."""
    iceberg = str(iceberg_schema(pa.schema([pa.field("v", column.arrow_type)])).fields[0].field_type)
    iceberg = re.sub(r"\d+: (\w+: )optional ", r"\1", iceberg)  # without field ids
    numeric = column.pg_type == "numeric" and column.declared.startswith("numeric(")
    yield "decimal128(p, s)" if numeric else str(column.arrow_type)
    yield "decimal(p, s)" if numeric else iceberg
    if not column.converted:
        yield "the value"
    elif "textin" in column.converted:
        yield "Postgres' text"
    else:
        yield f"the value as {column.converted.rsplit('.', 1)[1].replace('int8', 'bigint')}"
    if column.parts:
        yield "each part as above"
        return
    compared = encoding_of(column).postgres.rsplit(".", 1)[1]
    yield "text" if compared == "text" else f"{compared}, its bytes"
