"""The tables of Postgres that an epoch is taken from, as described by the Postgres catalog.

By default the store's tables; otherwise any tables with a primary key. A tracked table
(`oltp/tracking.sql`) can be read incrementally; any other table is read completely for each epoch.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from psycopg import Connection, errors
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composable, Composed, Identifier

from lakehouse.table.columns import SourceColumn, arrow_schema, read_columns
from lakehouse.table.epoch import Infinity, SnapshotToken, TableState
from lakehouse.table.layout import STORE_TABLES, UNKNOWN_LAYOUT, TableLayout
from oltp.store import has_tracking
from ridelake.errors import BadInput, CannotConnect, UsageError, did_you_mean
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.source")


@dataclass(frozen=True, slots=True)
class TableSource:
    """One table. `qualified`: schema and name as SQL identifiers. `tracked_since`: the first transaction
    whose changes have `tx`; None if the table is not tracked or its triggers are incomplete. `watched`:
    changes when a trigger is altered. `without`: columns that are excluded from the lake. `infinity`: what
    the lake has instead of a value without an exact form."""

    schema: str
    name: str
    qualified: str
    relation: int
    columns: tuple[SourceColumn, ...]
    key: tuple[str, ...]
    tracked_since: int | None
    watched: str
    layout: TableLayout
    without: tuple[str, ...] = ()
    infinity: Infinity = "refuse"

    @property
    def identifier(self) -> Identifier:
        return Identifier(self.schema, self.name)

    @property
    def order_by(self) -> tuple[str, ...]:
        return self.layout.order_by or self.key

    @property
    def arrow_schema(self) -> pa.Schema:
        return arrow_schema(self.columns)

    @property
    def key_columns(self) -> tuple[SourceColumn, ...]:
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.key)

    @property
    def shape(self) -> str:
        """A hash of the columns, their types, enum labels and the key. It also changes after an event that
        can change rows without tracking: an ALTER of a column, a trigger that was disabled for a while."""
        columns = [(c.name, c.declared, c.nullable, c.labels, c.altered) for c in self.columns]
        choices = [] if self.infinity == "refuse" else [self.infinity]
        definition = json.dumps([columns, self.key, self.watched, *choices])
        return hashlib.sha256(definition.encode()).hexdigest()[:16]

    def can_be_taken_by_changes_since(
        self, token: SnapshotToken, state: TableState | None, cleared: int
    ) -> bool:
        """Whether every change after the token was tracked and every tombstone still exists."""
        return (
            state is not None
            and state.relation == self.relation
            and state.shape == self.shape
            and self.tracked_since is not None
            and token.has_seen(self.tracked_since)
            and cleared <= token.xmin
        )


def select_list(columns: Sequence[SourceColumn], of: Identifier | None = None) -> Composed:
    """The columns in the form in which COPY sends them. `of`: the name of the table."""
    return SQL(", ").join(_sent(column, of) for column in columns)


def _sent(column: SourceColumn, of: Identifier | None) -> Composable:
    name = Identifier(column.name)
    value: Composable = name if of is None else SQL("{}.{}").format(of, name)
    return SQL("{} AS {}").format(column.sent(value), name) if column.converted else value


def store_tables() -> list[str]:
    """The names of the store's tables in the lake, as SQL identifiers."""
    return [f"ridelake.{name}" for name in STORE_TABLES]


IF_DROPPED = "; if it was dropped or renamed, create a lake of the other tables in a new folder (--lake)"


def find_relations(
    connection: Connection[TupleRow], names: Sequence[str], advice: str = ""
) -> list[TupleRow]:
    """The rows of the query `sources`. Raises BadInput for a name that does not exist."""
    with table_name_errors():
        found = connection.execute(QUERIES["sources"], {"tables": list(names)}).fetchall()
    for name, relation, *_ in found:
        if relation is None:
            raise _no_such_table(connection, name, advice)
    return found


def find_tables(connection: Connection[TupleRow], tables: Sequence[str], advice: str = "") -> list[TupleRow]:
    """As `find_relations`; also raises BadInput for a relation that is not a table or has no primary key."""
    found = find_relations(connection, tables, advice)
    for name, _, _, _, _, is_table, key in found:
        if not is_table:
            raise BadInput(f"{name} is not a table: pass the name of a table, not of a view or an index")
        if not key:
            raise BadInput(f"{name} has no primary key: add one")
    return found


def read_sources(
    connection: Connection[TupleRow],
    tables: Sequence[str],
    without: Sequence[str] = (),
    infinity: Infinity = "refuse",
) -> list[TableSource]:
    """Describe the tables. `without`: columns to exclude, as TABLE.COLUMN; those that do not exist are
    ignored. `infinity`: what to read instead of a value without an exact form. Names are SQL identifiers.
    Raises BadInput for a table that does not exist or has no primary key, and for two tables with the same
    name."""
    found = find_tables(connection, tables, IF_DROPPED)
    relations = list(dict.fromkeys(row[1] for row in found))
    left_out = {(relation, column) for _, relation, column, _ in named_columns(connection, without)}
    columns = read_columns(connection, relations, left_out, infinity)
    tracked = dict[int, tuple[int | None, str]]()
    if has_tracking(connection):
        rows = connection.execute(QUERIES["tracked"], {"relations": relations}).fetchall()
        tracked = {relation: (tx, watched) for relation, tx, watched in rows}
    by_relation: dict[int, TableSource] = {}
    for _, relation, schema, name, qualified, _, key in found:
        layout = STORE_TABLES.get(name, UNKNOWN_LAYOUT) if schema == "ridelake" else UNKNOWN_LAYOUT
        since, watched = tracked.get(relation, (None, ""))
        if not all(column.is_recorded for column in columns[relation] if column.in_key):
            since = None
        missing = tuple(sorted(column for of, column in left_out if of == relation))
        by_relation[relation] = TableSource(
            schema, name, qualified, relation, tuple(columns[relation]), tuple(key), since, watched, layout,
            missing, infinity,
        )  # fmt: skip
    sources = list(by_relation.values())
    _refuse_one_name_for_two(sources)
    return sources


def _no_such_table(connection: Connection[TupleRow], name: str, advice: str) -> BadInput:
    """The error, with the tables of similar names."""
    found = connection.execute(QUERIES["table_names"]).fetchall()
    suggestion, shown = did_you_mean(name, (row[0] for row in found)), name or "''"
    return BadInput(
        f"there is no table {shown} in this database: {suggestion}write SCHEMA.TABLE as in SQL, "
        f"and check --dsn{advice}"
    )


def named_columns(connection: Connection[TupleRow], names: Sequence[str]) -> list[tuple[str, int, str, bool]]:
    """Name, oid of the table, column, and whether it is in the primary key, of each TABLE.COLUMN that exists.
    Raises BadInput for a name that is not TABLE.COLUMN."""
    if not names:
        return []
    try:
        return connection.execute(QUERIES["named_columns"], {"names": list(names)}).fetchall()
    except (errors.InvalidParameterValue, errors.InvalidName) as error:
        raise BadInput(
            f"--without-column must be TABLE.COLUMN as in SQL, for example sales.orders.note "
            f"({error.diag.message_primary})"
        ) from error


def check_exclusions(
    connection: Connection[TupleRow], names: Sequence[str], sources: Sequence[TableSource]
) -> None:
    """Check the columns of --without-column. Raises BadInput for a column that does not exist, whose table
    is not in the lake, or that is in the primary key."""
    found = {name: (relation, in_key) for name, relation, _, in_key in named_columns(connection, names)}
    relations = {source.relation for source in sources}
    for name in names:
        relation, in_key = found.get(name, (None, False))
        if relation is None:
            raise BadInput(f"cannot exclude {name}: there is no such column; write TABLE.COLUMN")
        if relation not in relations:
            raise BadInput(f"cannot exclude {name}: its table is not in the lake; add it with --table")
        if in_key:
            raise BadInput(f"cannot exclude {name}: it is part of the primary key")


def _refuse_one_name_for_two(sources: Sequence[TableSource]) -> None:
    """Check the names of tables and columns. Raises BadInput for names that differ only in
    case, which engines ignore."""
    by_name: dict[str, TableSource] = {}
    for source in sources:
        other = by_name.setdefault(source.name.lower(), source)
        if other is not source:
            raise BadInput(
                f"{other.qualified} and {source.qualified} would both be named {source.name} in the lake: "
                "publish one of them to another lake with --lake"
            )
        names = [column.name.lower() for column in source.columns]
        if twice := [name for name in names if names.count(name) > 1]:
            raise BadInput(
                f"{source.qualified} has two columns {twice[0]} that differ only in case, which engines "
                "ignore: rename one"
            )


@contextmanager
def table_name_errors() -> Iterator[None]:
    """Translate the errors of looking up tables by name. Raises BadInput for a name that is not a table name,
    and the errors of `table_errors`."""
    try:
        with table_errors():
            yield
    except (errors.InvalidName, errors.SyntaxError, errors.FeatureNotSupported) as error:
        raise BadInput(
            f"not a table name ({error.diag.message_primary}): write it as in SQL, "
            'for example sales.orders or "Sales"."Orders"'
        ) from error


@contextmanager
def table_errors() -> Iterator[None]:
    """Translate the errors of reading a table. Raises BadInput if a table was dropped concurrently,
    UsageError if the role may not read it."""
    try:
        yield
    except errors.UndefinedTable as error:
        raise BadInput(
            f"{error.diag.message_primary}, it was dropped during the snapshot: run the command again"
        ) from error
    except errors.InsufficientPrivilege as error:
        if error.diag.source_file == "controldata_utils.c":  # EACCES of the file system has the same SQLSTATE
            raise CannotConnect(
                f"{error.diag.message_primary}: give the server's user the permission to enter the folders "
                "above its data directory"
            ) from error
        raise UsageError(
            f"{error.diag.message_primary}: connect as the owner of the table, or grant this role SELECT on "
            "it and USAGE of its schema"
        ) from error


def tombstones_deleted_before(connection: Connection[TupleRow]) -> int:
    """The transaction before which tombstones were deleted. 0 if nothing is tracked."""
    if not has_tracking(connection):
        return 0
    row = connection.execute("SELECT max(before_tx) FROM ridelake_tracking.cleared").fetchone()
    return int(row[0] or 0) if row else 0
