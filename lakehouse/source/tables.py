"""The tables of Postgres that an epoch is taken from, as described by the Postgres catalog.

By default the store's tables; otherwise any tables, views, materialized views and foreign tables. A tracked
table (`oltp/tracking.sql`) can be read incrementally; any other is read completely for each epoch.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa
from psycopg import Connection, errors
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from lakehouse.source.names import lake_names
from lakehouse.table.columns import SourceColumn, TableNotCopied, arrow_schema, read_columns
from lakehouse.table.epoch import DEFAULT_FORMS, SnapshotToken, TableState, ValueForms
from lakehouse.table.layout import STORE_TABLES, UNKNOWN_LAYOUT, TableLayout
from oltp.store import has_tracking
from ridelake.errors import BadInput, CannotConnect, UsageError, did_you_mean, first_line
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.source")


# Why a table cannot be tracked.
UNTRACKABLE = {
    "v": "it is a view",
    "m": "it is a materialized view",
    "f": "it is or has a foreign table",
    "unlogged": "it is unlogged",
    "partition": "it is a partition; `ridelake track` the partitioned table and add that instead",
    "parent": "other tables inherit from it, and its rows include theirs",
    "no key": "it has no primary key, and no unique index on columns that are NOT NULL",
}


@dataclass(frozen=True, slots=True)
class Partition:
    """A leaf partition. `state`: changes when its rows can have changed without tracking."""

    relation: int
    schema: str
    name: str
    kind: str
    state: str
    bytes: int


# The rows of a new partition are read into memory; a larger partition is read with the complete table.
NEW_PARTITION_BYTES_MAX = 256 << 20


def rows_of(schema: str, name: str, kind: str = "r", partitions: Sequence[Partition] = ()) -> Composed:
    """A table in a FROM clause. Of a partitioned table, the given partitions only: otherwise a partition that
    is attached while the snapshot is open would add its rows to the following queries."""
    if kind != "p":
        return Composed([Identifier(schema, name)])
    return SQL("(SELECT * FROM {} WHERE tableoid = ANY ({}::oid[])) AS partitioned").format(
        Identifier(schema, name), Literal([one.relation for one in partitions])
    )


@dataclass(frozen=True, slots=True)
class TableSource:
    """One table. `qualified`: schema and name as SQL identifiers. `tracked_since`: the first transaction
    whose changes have `tx`; None if the table is not tracked or its triggers are incomplete. `watched`:
    changes when a trigger is altered. `without`: columns that are excluded from the lake. `forms`: the
    chosen forms of values. `named`: its name in the lake, if it differs.
    `kind`: a key of `UNTRACKABLE`, or another letter of pg_class.relkind."""

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
    forms: ValueForms = DEFAULT_FORMS
    named: str | None = None
    kind: str = "r"
    partitions: tuple[Partition, ...] = ()

    @property
    def identifier(self) -> Identifier:
        return Identifier(self.schema, self.name)

    @property
    def lake_name(self) -> str:
        """Unique in the lake."""
        return self.named or self.name

    @property
    def rows(self) -> Composed:
        """The table in a FROM clause."""
        return rows_of(self.schema, self.name, self.kind, self.partitions)

    @property
    def can_be_locked(self) -> bool:
        """Whether LOCK TABLE accepts it."""
        return self.kind not in ("v", "m", "f")

    @property
    def reads_others(self) -> bool:
        """Whether its rows are those of other tables or servers."""
        return not self.can_be_locked or any(one.kind == "f" for one in self.partitions)

    @property
    def why_untrackable(self) -> str | None:
        """The reason why each epoch copies it completely; None if it can be tracked."""
        kind = "f" if any(one.kind == "f" for one in self.partitions) else self.kind
        return UNTRACKABLE.get(kind, None if self.key else UNTRACKABLE["no key"])

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
        choices = self.forms.chosen().values()
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
            and {one.state for one in self.partitions} >= set(state.partitions)
            and sum(one.bytes for one in self.new_partitions(state)) <= NEW_PARTITION_BYTES_MAX
        )

    def new_partitions(self, state: TableState | None) -> list[Partition]:
        """The partitions that the epoch of `state` does not have."""
        return [one for one in self.partitions if state is not None and one.state not in state.partitions]


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


IF_DROPPED = "; if it was dropped or renamed, the next `ridelake sync` removes it from the lake"


def find_relations(
    connection: Connection[TupleRow], names: Sequence[str], advice: str = ""
) -> list[TupleRow]:
    """The rows of the query `sources`. Raises BadInput for a name that does not exist."""
    with table_name_errors():
        found = connection.execute(QUERIES["sources"], {"tables": list(names)}).fetchall()
    for name, relation, *_ in found:
        if relation is None:
            raise BadInput(_no_such_table(connection, name, advice))
    return found


def existing(connection: Connection[TupleRow], names: Sequence[str], *, or_all: bool = True) -> list[str]:
    """The names that exist. `or_all`: all names if none exists, so that reading them is an error."""
    with table_name_errors():
        found = connection.execute(QUERIES["sources"], {"tables": list(names)}).fetchall()
    there = [name for name, relation, *_ in found if relation is not None]
    return there if there or not or_all else list(names)


def find_tables(connection: Connection[TupleRow], tables: Sequence[str], advice: str = "") -> list[TupleRow]:
    """As `find_relations`; also raises BadInput for a relation that is not a table or has no key."""
    found = find_relations(connection, tables, advice)
    for name, _, _, _, _, relkind, key, _ in found:
        if relkind not in ("r", "p"):
            raise BadInput(f"{name} is not a table: pass the name of a table, not of a view or an index")
        if not key:
            raise BadInput(
                f"{name} has no primary key: add one, or a unique index on columns that are NOT NULL"
            )
    return found


def read_sources(
    connection: Connection[TupleRow],
    tables: Sequence[str],
    without: Sequence[str] = (),
    forms: ValueForms = DEFAULT_FORMS,
    names: Mapping[str, str] | None = None,
) -> list[TableSource]:
    """Describe the tables. Names are SQL identifiers. `without`: columns to exclude, as TABLE.COLUMN; columns
    that do not exist are ignored. `forms`: the chosen forms of values. `names`: the names that tables have in
    the lake, by qualified name.

    Raises TableNotCopied for a table that does not exist, or was dropped since it was chosen, and for columns
    whose names differ only in case; BadInput for a relation that is not a table."""
    try:
        found = find_relations(connection, tables, IF_DROPPED)
    except BadInput as error:
        raise TableNotCopied(str(error)) from error
    for name, _, _, _, _, relkind, *_ in found:
        if relkind not in ("r", "p", "v", "m", "f"):
            raise BadInput(f"{name} is not a table: pass the name of a table or a view")
    relations = list(dict.fromkeys(row[1] for row in found))
    left_out = {(relation, column) for _, relation, column, _ in named_columns(connection, without)}
    excluded = {
        relation: tuple(sorted(column for of, column in left_out if of == relation)) for relation in relations
    }
    keys = {row[1]: () if {*(row[6] or ())} & {*excluded[row[1]]} else tuple(row[6] or ()) for row in found}
    columns = read_columns(connection, relations, left_out, forms, keys)
    tracked = dict[int, tuple[int | None, str]]()
    if has_tracking(connection):
        rows = connection.execute(QUERIES["tracked"], {"relations": relations}).fetchall()
        tracked = {relation: (tx, watched) for relation, tx, watched in rows}
    partitions = _read_partitions(connection, [row[1] for row in found if row[5] == "p"])
    by_relation: dict[int, TableSource] = {}
    for _, relation, schema, name, qualified, _, _, kind in found:
        layout = STORE_TABLES.get(name, UNKNOWN_LAYOUT) if schema == "ridelake" else UNKNOWN_LAYOUT
        since, watched = tracked.get(relation, (None, ""))
        key = keys[relation]
        if not key or not all(column.is_recorded for column in columns[relation] if column.in_key):
            since = None
        by_relation[relation] = TableSource(
            schema, name, qualified, relation, tuple(columns[relation]), key, since, watched, layout,
            excluded[relation], forms, kind=kind, partitions=tuple(partitions.get(relation, ())),
        )  # fmt: skip
    sources = list(by_relation.values())
    named = lake_names([source.qualified for source in sources], names or {})
    for source in sources:
        _check_columns(source)
    return [replace(source, named=named[source.qualified]) for source in sources]


def _read_partitions(
    connection: Connection[TupleRow], relations: Sequence[int]
) -> dict[int, list[Partition]]:
    partitions: dict[int, list[Partition]] = {}
    if relations:
        rows = connection.execute(QUERIES["partitions"], {"relations": list(relations)}).fetchall()
        for root, *values in rows:
            partitions.setdefault(root, []).append(Partition(*values))
    return partitions


def _no_such_table(connection: Connection[TupleRow], name: str, advice: str) -> str:
    """The message, with the tables of similar names."""
    found = connection.execute(QUERIES["table_names"]).fetchall()
    suggestion, shown = did_you_mean(name, (row[0] for row in found)), name or "''"
    return (
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


def _check_columns(source: TableSource) -> None:
    """Raises TableNotCopied for two columns whose names differ only in case, which engines ignore, and for a
    table without columns."""
    names = [column.name.lower() for column in source.columns]
    if twice := [name for name in names if names.count(name) > 1]:
        raise TableNotCopied(
            f"{source.qualified} has two columns {twice[0]} that differ only in case, which engines "
            "ignore: rename one"
        )
    if not names:
        raise TableNotCopied(f"{source.qualified} has no columns, so it has nothing to store: add a column")


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
    """Translate the errors of reading a table. Raises TableNotCopied if a table was dropped or is altered
    concurrently, UsageError if the role may not read it."""
    try:
        yield
    except errors.UndefinedTable as error:
        raise TableNotCopied(
            f"{first_line(error)}: it was dropped during the snapshot; run the command again"
        ) from error
    except errors.LockNotAvailable as error:
        raise TableNotCopied(
            f"cannot read the tables: another session alters one of them ({first_line(error)}); "
            "run the command again"
        ) from error
    except errors.InsufficientPrivilege as error:
        if error.diag.source_file == "controldata_utils.c":  # EACCES of the file system has the same SQLSTATE
            raise CannotConnect(
                f"{error.diag.message_primary}: give the server's user the permission to enter the folders "
                "above its data directory"
            ) from error
        raise UsageError(
            f"{first_line(error)}: connect as the owner of the table, or grant this role SELECT on "
            "it and USAGE of its schema"
        ) from error


def tombstones_deleted_before(connection: Connection[TupleRow]) -> int:
    """The transaction before which tombstones were deleted. 0 if nothing is tracked."""
    if not has_tracking(connection):
        return 0
    row = connection.execute("SELECT max(before_tx) FROM ridelake_tracking.cleared").fetchone()
    return int(row[0] or 0) if row else 0
