"""What has changed in a table between an epoch's token and the transaction's own snapshot.

A row version belongs to the difference if the old token had not seen its transaction, and the snapshot
we read with has. Postgres itself does the second half; the first is one condition on the column `tx`:

    tx >= xmax   had not begun then          tx = ANY (xip)   was running then

A number beyond the snapshot's own xmax is another server's, and came with a dump.

This is PgQ's rule (Skype, 2007). docs/lake.md has the proof, and what each weaker rule loses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import pyarrow as pa
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier, Literal

from lakehouse.columns import Column, arrow_schema
from lakehouse.epoch import Token
from lakehouse.extract import fetch
from lakehouse.source import TableSource, select_list

# Which values of a type Arrow can hold; all of them for a type not listed. Arrow's last timestamp is earlier
# than Postgres' last.
HELD_KEYS = {
    "numeric": SQL("{value} <> 'NaN'"),
    "date": SQL("isfinite({value}::date)"),
    "timestamp": SQL("isfinite({value}::timestamp) AND {value}::timestamp <= '294247-01-10 04:00:54.775807'"),
    "timestamptz": SQL(
        "isfinite({value}::timestamptz) AND {value}::timestamptz <= '294247-01-10 04:00:54.775807+00'"
    ),
}

# Tables of which rows are gone, by oid, and whether all were at once.
Tombstones = Mapping[int, bool]


@dataclass(frozen=True, slots=True)
class Difference:
    """`changed`: rows as they are now, new ones too. `gone`: keys of which there may be rows no more, or
    again. `emptied`: the table was truncated, and what is in `changed` is all it has."""

    changed: pa.Table
    gone: pa.Table
    emptied: bool

    def __bool__(self) -> bool:
        return bool(self.changed.num_rows or self.gone.num_rows or self.emptied)


def since(connection: Connection[TupleRow], token: Token) -> Tombstones:
    """Say since when, for the rest of the transaction; gives which tables have tombstones since then."""
    connection.execute(
        "SELECT set_config('ridelake.since_xmax', %s, true), set_config('ridelake.since_xip', %s, true),"
        " set_config('ridelake.until_xmax', pg_snapshot_xmax(pg_current_snapshot())::text, true)",
        (str(token.xmax), f"{{{','.join(map(str, token.xip))}}}"),
    )
    return dict(connection.execute(files("lakehouse").joinpath("tombstones.sql").read_bytes()).fetchall())


def difference(connection: Connection[TupleRow], table: TableSource, tombstones: Tombstones) -> Difference:
    """Of a tracked table, since what `since` was told, as of the connection's snapshot."""
    changed = fetch(connection, changed_query(table), table.columns)
    if table.relation in tombstones:
        gone = fetch(connection, gone_query(table), table.key_columns)
    else:
        gone = arrow_schema(table.key_columns).empty_table()
    return Difference(changed, gone, tombstones.get(table.relation, False))


def changed_query(table: TableSource) -> Composed:
    return _template("changed.sql").format(columns=select_list(table.columns), table=table.identifier)


def gone_query(table: TableSource) -> Composed:
    return _template("gone.sql").format(
        columns=SQL(", ").join(_key_value(place, column) for place, column in enumerate(table.key_columns)),
        relation=Literal(table.relation),
        is_held=SQL(" AND ").join(_is_held(place, column) for place, column in enumerate(table.key_columns)),
    )


def _is_held(place: int, column: Column) -> Composed:
    """A key with a value that the lake cannot hold is not in the lake, so its tombstone is ignored."""
    condition = HELD_KEYS.get(column.pg_type, SQL("true"))
    return condition.format(value=SQL("(key ->> {})").format(Literal(place)))


def _key_value(place: int, column: Column) -> Composed:
    """One value of a tombstone's key, as COPY is to send it: of the type that a domain stands on, which a
    check added to the domain later does not refuse; of an enum and a numeric, its text."""
    value = SQL("(key ->> {})").format(Literal(place))
    if not (column.is_enum or column.as_text):
        value = SQL("{}::{}").format(value, Identifier("pg_catalog", column.pg_type))
    return SQL("{} AS {}").format(value, Identifier(column.name))


def _template(name: str) -> SQL:
    """A statement with places for names, which psycopg quotes."""
    return SQL(files("lakehouse").joinpath(name).read_text())  # a file of ours
