"""The epoch that a query reads, and its tables by the names that an engine uses.

The epoch is the newest, an older one (--as-of), or the newest with an overlay (--fresh). It is pinned, so
that `maintain` does not expire it during the query.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakehouse.engines import has_ride_table, view_names
from lakehouse.table.published import check_files_exist, epoch_as_of, newest_epoch, pin_epoch, read_epochs
from lakehouse.table.stores import check_has_no_dsn
from ridelake.errors import NotReady, QueryRejected, RidelakeError, UsageError
from ridelake.screen import note
from ridelake.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.engines import Engine
    from lakehouse.table.epoch import Epoch

_NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
# Comments, strings and dollar quotes contain no names.
_QUALIFIED = re.compile(
    rf"""--[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$
        | (?<![\w."])(?P<schema>{_NAME})\s*\.\s*(?P<table>{_NAME})""",
    re.VERBOSE | re.DOTALL,
)
RIDE_TABLE = "RideTable"

# For Postgres, before the first epoch.
_TABLES_QUERY = (
    "SELECT CAST(table_name AS text) AS name FROM information_schema.tables"
    " WHERE table_schema = ANY(current_schemas(false)) ORDER BY 1"
)


@contextmanager
def open_query_epoch(
    settings: Settings,
    engines: Sequence[str],
    *,
    as_of: str | None = None,
    fresh: bool = False,
    source: str | None = None,
) -> "Iterator[Epoch | None]":
    """The pinned epoch. None if there is no epoch and Postgres is the only engine, because it reads its own
    rows. `source`: only the tables of this store of the lake.

    Raises NotReady if there is no epoch, UsageError if `as_of` names no epoch or Postgres is to answer for
    it, if there is no such store, or if `settings` name another database than that of `source`."""
    if source is not None:
        check_has_no_dsn(source)
    if source is not None and settings.dsn is None and (fresh or "postgres" in engines):
        what = "--fresh" if fresh else "postgres"
        raise UsageError(f"{what} reads the store {source} itself: pass its database with --dsn")
    if as_of is not None and fresh:
        raise UsageError("--as-of and --fresh cannot be combined; give one of them")
    if as_of is not None and "postgres" in engines:
        raise UsageError(
            "postgres has only current rows; with --as-of choose engines that read files (--engine)"
        )
    if fresh:
        with _fresh(settings, source) as epoch:
            yield epoch
        return
    try:
        epoch = (
            epoch_as_of(settings.lake, as_of, source) if as_of is not None else newest_epoch(settings.lake)
        )
    except NotReady:
        if list(engines) != ["postgres"]:
            raise
        yield None
        return
    with pin_epoch(settings.lake, epoch):
        check_files_exist(settings.lake, epoch)
        if source is not None:
            epoch = epoch.of(source)
            if "postgres" in engines:
                from lakehouse.engines.postgres import check_store  # imports psycopg

                check_store(settings, epoch)
        yield epoch


def last_epoch(settings: Settings, source: str | None = None) -> "Epoch | None":
    """The newest epoch, for a list of names; None if there is none, or the lake cannot be read."""
    try:
        newest = next(iter(read_epochs(settings.lake, limit=1)), None)
        return newest.of(source) if newest is not None and source is not None else newest
    except RidelakeError:
        return None


@contextmanager
def _fresh(settings: Settings, source: str | None) -> "Iterator[Epoch]":
    from lakehouse.capture.overlay import (
        open_overlay,  # imports psycopg and pyarrow, which most queries do not need
    )

    newest = newest_epoch(settings.lake)
    if source is not None:
        newest = newest.of(source)
    elif newest.stores:
        raise UsageError("--fresh reads one store: choose it with --source, and pass its database with --dsn")
    with pin_epoch(settings.lake, newest):
        check_files_exist(settings.lake, newest)
        with open_overlay(settings, newest) as epoch:
            yield epoch


def relations(engine: "Engine", epoch: "Epoch | None") -> "dict[str, pa.Schema]":
    """The columns of each table by its name. Raises QueryRejected."""
    found = {}
    for name in names(engine, epoch):
        try:
            found[name] = engine.sql(_schema_query(engine, name, epoch)).schema
        except QueryRejected:  # the tables of several stores may have no union
            if epoch is None or not epoch.stores or name in epoch.tables:
                raise
    return found


def names(engine: "Engine", epoch: "Epoch | None") -> list[str]:
    """Names of the tables and views."""
    if epoch is not None:
        return [*sorted(epoch.tables), *view_names(epoch)]
    found = engine.sql(_TABLES_QUERY).column(0).to_pylist()
    return [RIDE_TABLE if name == RIDE_TABLE.lower() else name for name in found]


def without_schemas(query: str, epoch: "Epoch") -> str:
    """The query with the lake's names, for engines over files: `orders` for `shop.orders`, or, if another
    table of the lake has that name, `"shop.orders"`."""
    known = {
        table.identifier: name.removeprefix(f"{table.store}_") if table.store else name
        for name, table in epoch.tables.items()
    }
    if has_ride_table(epoch):
        known["ridelake", RIDE_TABLE.lower()] = RIDE_TABLE

    def renamed(found: re.Match[str]) -> str:
        schema, table = found["schema"], found["table"]
        if not schema or (name := known.get((_folded(schema), _folded(table)))) is None:
            return found[0]
        if name == _folded(table):
            return table if table.isascii() else _quoted(name)  # some engines are case-sensitive
        if name == RIDE_TABLE:
            return name
        # In Postgres, a table without an alias is also `orders`.
        is_column = re.match(r"\s*\.", query[found.end() :])
        alias = table if table.startswith('"') else _folded(table)
        needs_alias = not is_column and _has_column_of(table, query)
        return f"{_quoted(name)} AS {alias}" if needs_alias else _quoted(name)

    return _QUALIFIED.sub(renamed, query) if "." in query else query


def _has_column_of(table: str, query: str) -> bool:
    """Whether the query has a column such as `orders.id`, without a schema."""
    return re.search(rf"(?<![\w.\"]){re.escape(table)}\s*\.", query, re.IGNORECASE) is not None


def _folded(name: str) -> str:
    """The name as Postgres folds it: lower case unless quoted, ASCII letters only."""
    if name.startswith('"'):
        return name[1:-1].replace('""', '"')
    return re.sub("[A-Z]+", lambda letters: letters[0].lower(), name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _schema_query(engine: "Engine", name: str, epoch: "Epoch | None") -> str:
    """A query for the schema of a table. A name cannot be a parameter; it is from the catalog, and quoted
    here."""
    table = epoch.tables.get(name) if epoch is not None else None
    if engine.name == "postgres" and table is not None and name != table.identifier[1]:
        return f"SELECT * FROM {table.source} LIMIT 0"  # noqa: S608
    return f"SELECT * FROM {name if name == RIDE_TABLE else _quoted(name)} LIMIT 0"  # noqa: S608


def note_missing_unions(settings: Settings, epoch: "Epoch | None", query: str | None = None) -> None:
    """Print why tables of several stores have no union: the tables that the query names, or all."""
    if epoch is None or not epoch.stores:
        return
    from lakehouse.engines.store_views import union_queries

    missing = union_queries(settings.lake, epoch)[1]
    if any(has_ride_table(epoch.of(store)) for store in epoch.stores):
        missing[RIDE_TABLE] = "it joins by ids that each store assigns itself; choose one with --source"
    for name, why in missing.items():
        if query is None or re.search(rf"(?<!\w){re.escape(name)}(?!\w)", query, re.IGNORECASE):
            note(f"note: there is no table {name} of all stores: {why}")


def missing_ride_tables_message(epoch: "Epoch") -> str:
    """The message for an epoch without the tables of the ride store, or with those of several stores."""
    if epoch.stores:
        return f"it needs the tables of one store: add --source {' or --source '.join(epoch.stores)}"
    tables = ", ".join(sorted(table.source for table in epoch.tables.values()))
    return (
        f"epoch {epoch.number} has {tables} but not the ride store's tables, which the questions need; "
        "query its tables with `ridelake sql`, or choose another lake (--lake)"
    )
