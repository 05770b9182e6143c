"""What an epoch is made of: tables of Postgres, as its own catalog describes them.

The store's tables by default, or anybody's that have a primary key. A table that is tracked
(`oltp/tracking.sql`) can be taken by its changes; any other is taken whole each time.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files

import pyarrow as pa
from psycopg import Connection, errors
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier

from lakehouse.columns import Column, arrow_schema, read_columns
from lakehouse.epoch import TableState, Token
from lakehouse.layout import STORE_TABLES, UNKNOWN, Layout
from oltp.store import has_tracking
from ridelake.errors import BadInput, CannotConnect, UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class TableSource:
    """One table. `qualified`: schema and name as SQL writes them. `tracked_since`: the transaction from which
    on every change is stamped; None if it is not tracked, or if its triggers are not what they should be;
    `watched` is another one once they have been altered. `without`: columns that are left out of the lake."""

    schema: str
    name: str
    qualified: str
    relation: int
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    tracked_since: int | None
    watched: str
    layout: Layout
    without: tuple[str, ...] = ()

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
    def key_columns(self) -> tuple[Column, ...]:
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.key)

    @property
    def shape(self) -> str:
        """Changes with the columns, their types, the labels of an enum and the key; and with what may have
        changed rows behind our back: an ALTER of a column, a trigger that was silent for a while."""
        columns = [(c.name, c.declared, c.nullable, c.labels, c.altered) for c in self.columns]
        told = json.dumps([columns, self.key, self.watched])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def can_be_taken_by_changes_since(self, token: Token, state: TableState | None, cleared: int) -> bool:
        """Whether every change after the token has been stamped, and every tombstone is still there."""
        return (
            state is not None
            and state.relation == self.relation
            and state.shape == self.shape
            and self.tracked_since is not None
            and token.has_seen(self.tracked_since)
            and cleared <= token.xmin
        )


def select_list(columns: Sequence[Column], of: Identifier | None = None) -> Composed:
    """The columns as COPY is to send them."""
    wanted = []
    for column in columns:
        name = Identifier(column.name) if of is None else SQL("{}.{}").format(of, Identifier(column.name))
        wanted.append(SQL("{}::text").format(name) if column.as_text else name)
    return SQL(", ").join(wanted)


def store_tables() -> list[str]:
    """The names of the store's tables that the lake has, as SQL writes them."""
    return [f"ridelake.{name}" for name in STORE_TABLES]


IF_DROPPED = "; if it was dropped or renamed, create a lake of the other tables in a new folder (--lake)"


def find_tables(connection: Connection[TupleRow], tables: Sequence[str], advice: str = "") -> list[TupleRow]:
    """The rows of `sources.sql`. Raises BadInput for a table that does not exist or has no primary key."""
    with refusing_bad_names():
        found = connection.execute(_statement("sources.sql"), {"tables": list(tables)}).fetchall()
    for name, relation, _, _, _, is_table, key in found:
        if relation is None:
            raise no_such_table(connection, name, advice)
        if not is_table:
            raise BadInput(f"{name} is not a table: name one, not a view or an index")
        if not key:
            raise BadInput(f"{name} has no primary key: add one, which identifies its rows")
    return found


def read_sources(
    connection: Connection[TupleRow],
    tables: Sequence[str],
    without: Sequence[str] = (),
) -> list[TableSource]:
    """Describe the tables. `without`: columns to leave out, as TABLE.COLUMN; those that do not exist are
    ignored. Names are written as in SQL. Raises BadInput for a table that does not exist or has no primary
    key, for a type that the lake cannot hold, and for two tables of one name."""
    found = find_tables(connection, tables, IF_DROPPED)
    relations = list(dict.fromkeys(row[1] for row in found))
    left_out = {(relation, column) for _, relation, column, _ in named_columns(connection, without)}
    columns = read_columns(connection, relations, left_out)
    tracked = dict[int, tuple[int | None, str]]()
    if has_tracking(connection):
        rows = connection.execute(_statement("tracked.sql"), {"relations": relations}).fetchall()
        tracked = {relation: (tx, watched) for relation, tx, watched in rows}
    by_relation: dict[int, TableSource] = {}
    for _, relation, schema, name, qualified, _, key in found:
        layout = STORE_TABLES.get(name, UNKNOWN) if schema == "ridelake" else UNKNOWN
        since, watched = tracked.get(relation, (None, ""))
        missing = tuple(sorted(column for of, column in left_out if of == relation))
        by_relation[relation] = TableSource(
            schema, name, qualified, relation, tuple(columns[relation]), tuple(key), since, watched, layout,
            missing,
        )  # fmt: skip
    sources = list(by_relation.values())
    _refuse_one_name_for_two(sources)
    return sources


def no_such_table(connection: Connection[TupleRow], name: str, advice: str = "") -> BadInput:
    """The error, with the tables of a similar name."""
    found = connection.execute(_statement("table_names.sql")).fetchall()
    meant, shown = did_you_mean(name, (row[0] for row in found)), name or "''"
    return BadInput(
        f"there is no table {shown} in this database: {meant}write SCHEMA.TABLE as in SQL, "
        f"and check --dsn{advice}"
    )


def named_columns(connection: Connection[TupleRow], names: Sequence[str]) -> list[tuple[str, int, str, bool]]:
    """Name, the table's oid, the column and whether it is in the primary key, of each TABLE.COLUMN that
    exists. Raises BadInput for a name that cannot be a column's."""
    if not names:
        return []
    try:
        return connection.execute(_statement("named_columns.sql"), {"names": list(names)}).fetchall()
    except (errors.InvalidParameterValue, errors.InvalidName) as error:
        raise BadInput(
            f"--without-column takes TABLE.COLUMN as SQL writes it, for example sales.orders.note "
            f"({error.diag.message_primary})"
        ) from error


def refuse_bad_exclusions(
    connection: Connection[TupleRow], names: Sequence[str], sources: Sequence[TableSource]
) -> None:
    """Raises BadInput for a column of --without-column that does not exist, is of a table that is not part of
    the lake, or is in the primary key."""
    found = {name: (relation, in_key) for name, relation, _, in_key in named_columns(connection, names)}
    relations = {source.relation for source in sources}
    for name in names:
        relation, in_key = found.get(name, (None, False))
        if relation is None:
            raise BadInput(f"cannot leave out {name}: there is no such column; write TABLE.COLUMN")
        if relation not in relations:
            raise BadInput(f"cannot leave out {name}: its table is not in the lake; add it with --table")
        if in_key:
            raise BadInput(f"cannot leave out {name}: it is part of the primary key")


def _refuse_one_name_for_two(sources: Sequence[TableSource]) -> None:
    """Engines do not tell big letters from small ones."""
    by_name: dict[str, TableSource] = {}
    for source in sources:
        other = by_name.setdefault(source.name.lower(), source)
        if other is not source:
            raise BadInput(
                f"{other.qualified} and {source.qualified} would both be {source.name} in the lake: "
                "give one of them a lake of its own with --lake"
            )
        names = [column.name.lower() for column in source.columns]
        if twice := [name for name in names if names.count(name) > 1]:
            raise BadInput(
                f"{source.qualified} has two columns {twice[0]}, which engines cannot tell apart by big and "
                "small letters alone: rename one"
            )


@contextmanager
def refusing_bad_names() -> Iterator[None]:
    """Say in a sentence that a name cannot be a table's, or that the role may not look."""
    try:
        with refusing_bad_tables():
            yield
    except (errors.InvalidName, errors.SyntaxError, errors.FeatureNotSupported) as error:
        raise BadInput(
            f"that is no table's name ({error.diag.message_primary}): write it as SQL does, "
            'for example sales.orders or "Sales"."Orders"'
        ) from error


@contextmanager
def refusing_bad_tables() -> Iterator[None]:
    """Say in a sentence that a table has just gone, or that the role may not read it."""
    try:
        yield
    except errors.UndefinedTable as error:
        raise BadInput(f"{error.diag.message_primary}, it was dropped a moment ago: run it again") from error
    except errors.InsufficientPrivilege as error:
        if error.diag.source_file == "controldata_utils.c":  # the system's refusal, which has the same code
            raise CannotConnect(
                f"{error.diag.message_primary}: let the server's user pass through the folders above its data"
            ) from error
        raise UsageError(
            f"{error.diag.message_primary}: connect as the role that owns it, or grant this one SELECT on it"
            " and USAGE of its schema"
        ) from error


def cleared_before(connection: Connection[TupleRow]) -> int:
    """Tombstones of transactions from this one on are all there. 0 if nothing is tracked here."""
    if not has_tracking(connection):
        return 0
    row = connection.execute("SELECT max(before_tx) FROM ridelake_tracking.cleared").fetchone()
    return int(row[0] or 0) if row else 0


def _statement(name: str) -> bytes:
    return files("lakehouse").joinpath(name).read_bytes()
