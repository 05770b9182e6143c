"""Which tables of the database an epoch has: named tables, and tables that --all-tables or --schema select. A
table that is created later joins at the next epoch; a table that is dropped or renamed leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from psycopg import Connection
from psycopg.rows import TupleRow

from lakehouse.source.names import without_same_names
from lakehouse.source.tables import QUERIES, existing, find_relations, store_tables
from lakehouse.table.columns import TableNotCopied
from lakehouse.table.epoch import Epoch, Selection, SkippedTable, quote_identifier, split_identifier
from lakehouse.table.layout import STORE_TABLES
from ridelake.errors import BadInput, did_you_mean


@dataclass(frozen=True, slots=True)
class ChosenTables:
    """`names`: the tables to read, as SQL identifiers. `without`: columns that are excluded. `left_out`:
    selected tables that cannot be read, and why. `leaving`: tables of the previous epoch that are neither,
    and why. `selection`: to be stored with the lake; None: unchanged. `lake_names`: of tables
    that have one."""

    names: list[str]
    without: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    leaving: Mapping[str, str] = field(default_factory=dict)
    selection: Selection | None = None
    lake_names: Mapping[str, str] = field(default_factory=dict)

    def skipped(self, previous: Epoch | None) -> dict[str, SkippedTable]:
        """The tables that are left out, by their names in the lake."""
        names = previous.names if previous else {}
        known = {one.source: one for one in previous.all_tables.values()} if previous else {}

        def skipped(table: str, why: str) -> SkippedTable:
            before = known.get(table)
            if before is None:
                return SkippedTable(table, why)
            return SkippedTable(table, why, before.without, before.forms, before.relation)

        return {names.get(table, table): skipped(table, why) for table, why in self.left_out.items()}


def choose_tables(
    connection: Connection[TupleRow],
    previous: Epoch | None,
    more: Sequence[str],
    stored: Selection | None,
    given: Selection | None,
) -> ChosenTables:
    """The tables of the next epoch. `more`: named now. `stored`: the lake's selection. `given`: a selection
    that replaces it. Raises BadInput if one of `more` or a schema does not exist, TableNotCopied if there is
    no table."""
    known = previous.sources if previous else []
    added = [row[4] for row in find_relations(connection, more)]
    named = list(dict.fromkeys([*(stored.tables if stored else known), *added]))
    new = replace(
        given or stored or Selection(), tables=tuple(named), without=stored.without if stored else ()
    )
    if given is not None:
        check_schemas(connection, given)
    selected = select_tables(connection, new)
    if not (named or selected):
        if given or stored:
            raise TableNotCopied("no table is selected: check --schema, --exclude and --dsn")
        return ChosenTables(store_tables())
    readable = [name for name, problem in selected.items() if problem is None]
    wanted = dict.fromkeys([*known, *named, *readable])
    there = [name for name in wanted if name in named or name in readable]
    # The tables of the ride store belong together. In another database, nothing was dropped.
    if previous is None or _is_database_of(connection, previous):
        found = {*existing(connection, there, or_all=False), *store_tables()}
        there = [name for name in there if name in found]
    if not there:
        raise TableNotCopied(
            "no table of the lake is in this database: check --dsn; if all were dropped or renamed, publish "
            "other tables with --table, or to a new lake with --lake"
        )
    left_out = {name: why for name, why in selected.items() if why is not None and name not in there}
    lake_names = _names_in_lake(previous)
    required = [*named, *(table.source for table in previous.tables.values())] if previous else named
    there, same_name = without_same_names(there, lake_names, required)
    left_out |= same_name
    renamed = _renamed(connection, previous) if previous else {}
    leaving = _why_leaving(previous, renamed, {*there, *left_out}) if previous else {}
    without = list(dict.fromkeys([*new.without, *(previous.without if previous else ())]))
    # A column stays excluded if its table, or the schema, was renamed.
    moved = {table: name for table, name in renamed.items() if name not in (None, table)}
    without += _moved(previous, moved) if previous else []
    of_leaving = (
        name for name in without if any(name.startswith(f"{table}.") for table in (*leaving, *moved.values()))
    )
    new = replace(new, without=tuple(dict.fromkeys([*new.without, *of_leaving])))
    is_new = new != stored and (given is not None or stored is not None or bool(leaving))
    return ChosenTables(there, without, left_out, leaving, new if is_new else None, lake_names)


def _names_in_lake(previous: Epoch | None) -> dict[str, str]:
    """The names of tables in the lake, by qualified name. A table that was left out may have none yet."""
    names = previous.names if previous else {}
    return {
        table: name for table, name in names.items()
        if table != name or split_identifier(table) == tuple(name.split(".", 1))
    }  # fmt: skip


def select_tables(connection: Connection[TupleRow], selection: Selection) -> dict[str, str | None]:
    """The tables that are selected by their schema, as SQL identifiers, and why one cannot be read."""
    if not (selection.all_tables or selection.schemas):
        return {}
    rows = connection.execute(QUERIES["selectable"], {"store_tables": list(STORE_TABLES)}).fetchall()
    return {qualified: problem for qualified, schema, name, problem in rows if selection.has(schema, name)}


def check_schemas(connection: Connection[TupleRow], selection: Selection) -> None:
    """Raises BadInput for a schema that does not exist."""
    there = [name for (name,) in connection.execute(QUERIES["schemas"]).fetchall()]
    for schema in selection.schemas:
        if schema not in there:
            suggestion, shown = did_you_mean(schema, there), schema or "''"
            raise BadInput(
                f"there is no schema {shown} in this database: {suggestion}check --schema and --dsn"
            )


def _is_database_of(connection: Connection[TupleRow], epoch: Epoch) -> bool:
    found = connection.execute("SELECT oid::bigint FROM pg_database WHERE datname = current_database()")
    return epoch.token.database is None or found.fetchone() == (epoch.token.database,)


def _renamed(connection: Connection[TupleRow], previous: Epoch) -> dict[str, str | None]:
    """The current names of the tables of the previous epoch; None if one was dropped."""
    if not _is_database_of(connection, previous):
        return {}
    relations = {table.source: table.relation for table in previous.all_tables.values() if table.relation}
    rows = connection.execute(QUERIES["renamed"], {"relations": list(relations.values())}).fetchall()
    now: dict[int, str] = dict(rows)
    return {source: now.get(relation) for source, relation in relations.items()}


def _moved(previous: Epoch, names: Mapping[str, str | None]) -> list[str]:
    """The excluded columns of the tables that have other names now."""
    return [
        f"{names[table.source]}.{quote_identifier(column)}"
        for table in previous.all_tables.values()
        if table.source in names
        for column in table.without
    ]


def _why_leaving(previous: Epoch, renamed: Mapping[str, str | None], staying: set[str]) -> dict[str, str]:
    def why(source: str) -> str:
        now = renamed.get(source)
        if now is None:
            return "it was dropped"
        return "it is not selected" if now == source else f"it was renamed to {now}"

    sources = [table.source for table in previous.tables.values() if table.source not in staying]
    return {source: why(source) for source in sources}
