"""The rows of a table that have changed between an epoch's token and the transaction's snapshot.

A row version is in the difference if its transaction is not visible at the old token and is visible in the
current snapshot. Postgres checks the second condition. The first is a condition on the column `tx`:

    tx >= xmax   not started at the token          tx = ANY (xip)   in progress at the token

A `tx` above the current snapshot's xmax was written on another server and restored from a dump.

This is the rule of PgQ (Skype, 2007). docs/lake.md has the proof, and the losses of simpler rules.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from psycopg import Connection
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from lakehouse.source.copy import fetch
from lakehouse.source.copy.receive import no_pause
from lakehouse.source.tables import TableSource, rows_of, select_list
from lakehouse.table.columns import SourceColumn, arrow_schema
from lakehouse.table.epoch import SnapshotToken, TableState
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.source")

# Tables with deleted rows: oid → whether the table was truncated.
Tombstones = Mapping[int, bool]


@dataclass(frozen=True, slots=True)
class TableChanges:
    """`changed`: inserted and updated rows, in their current version. `deleted`: keys of deleted rows; a row
    with such a key may have been inserted again. `emptied`: the table was truncated, so `changed` has all
    its rows."""

    changed: pa.Table
    deleted: pa.Table
    emptied: bool

    def __bool__(self) -> bool:
        return bool(self.changed.num_rows or self.deleted.num_rows or self.emptied)


def set_since(connection: Connection[TupleRow], token: SnapshotToken) -> Tombstones:
    """Set the token for the rest of the transaction; return the tables that have tombstones since then."""
    connection.execute(
        "SELECT set_config('ridelake.since_xmax', %s, true), set_config('ridelake.since_xip', %s, true),"
        " set_config('ridelake.until_xmax', pg_snapshot_xmax(pg_current_snapshot())::text, true)",
        (str(token.xmax), f"{{{','.join(map(str, token.xip))}}}"),
    )
    return dict(connection.execute(QUERIES["tombstones"]).fetchall())


def read_changes(
    connection: Connection[TupleRow],
    table: TableSource,
    tombstones: Tombstones,
    state: TableState | None = None,
    pause: Callable[[], None] = no_pause,
) -> TableChanges:
    """The changes of a tracked table from the token given to `set_since` to the connection's snapshot.
    `state`: the table in the epoch of that token; of a partition that it does not have, all rows are read.
    `pause` is called before each read."""
    # The planner does not know how few rows have changed, and would read the whole table. JIT compilation for
    # the cost that it assumes takes longer than the query.
    with _settings(connection, enable_seqscan="off", jit="off"):
        changed = fetch(connection, changed_query(table, state), table.columns, pause)
    if table.relation in tombstones:
        deleted = fetch(connection, deleted_keys_query(table), table.key_columns, pause)
    else:
        deleted = arrow_schema(table.key_columns).empty_table()
    return TableChanges(changed, deleted, tombstones.get(table.relation, False))


@contextmanager
def _settings(connection: Connection[TupleRow], **settings: str) -> Iterator[None]:
    """Settings of the planner for the block; restored after it, unless the transaction has failed."""
    names = list(settings)
    query = "SELECT set_config(name, value, true) FROM unnest(%s::text[], %s::text[]) AS s (name, value)"
    before = connection.execute(
        "SELECT current_setting(name) FROM unnest(%s::text[]) AS s (name)", (names,)
    ).fetchall()
    connection.execute(query, (names, list(settings.values())))
    try:
        yield
    finally:
        if connection.info.transaction_status == TransactionStatus.INTRANS:
            connection.execute(query, (names, [value for (value,) in before]))


def changed_query(table: TableSource, state: TableState | None = None) -> Composed:
    new = table.new_partitions(state)
    old = [one for one in table.partitions if one not in new]
    columns = select_list(table.columns)
    query = SQL(QUERIES["changed"]).format(
        columns=columns, table=rows_of(table.schema, table.name, table.kind, old)
    )
    return SQL(" UNION ALL ").join(
        [query, *(SQL("SELECT {} FROM {}").format(columns, Identifier(one.schema, one.name)) for one in new)]
    )


def deleted_keys_query(table: TableSource) -> Composed:
    return SQL(QUERIES["deleted_keys"]).format(
        columns=SQL(", ").join(
            SQL("{} AS {}").format(column.sent(_key_value(place, column)), Identifier(column.name))
            for place, column in enumerate(table.key_columns)
        ),
        relation=Literal(table.relation),
        is_held=SQL(" AND ").join(_is_held(place, column) for place, column in enumerate(table.key_columns)),
    )


def _is_held(place: int, column: SourceColumn) -> Composable:
    """A condition that excludes keys that the lake cannot store: they are not in the lake."""
    return column.is_held(_key_value(place, column)) or SQL("true")


def _key_value(place: int, column: SourceColumn) -> Composable:
    """One value of a tombstone's key. A domain is cast to its base type, so that a CHECK added later cannot
    reject it. An enum stays text, because a label may have been renamed."""
    value = SQL("(key ->> {})").format(Literal(place))
    if column.base_type:
        return SQL("{}::{}").format(value, SQL(column.base_type))
    if column.is_enum:
        return value
    return SQL("{}::{}").format(value, Identifier("pg_catalog", column.pg_type))
