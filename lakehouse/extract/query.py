"""The COPY of a table, whole or by the pages of its heap."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from lakehouse.columns import Column
from lakehouse.source import TableSource

# With less than this for each, workers cost more than they save.
WORKER_PAGES_MIN = 2_048


@dataclass(frozen=True, slots=True)
class Pages:
    """From one page of a table to before another, or to its end, wherever that is by then."""

    begin: int
    end: int | None


def split_pages(pages: int, workers: int) -> list[Pages | None]:
    """A range of pages for each worker; [None], the whole table, where one worker is enough."""
    workers = min(workers, pages // WORKER_PAGES_MIN)
    if workers < 2:
        return [None]
    borders = [pages * number // workers for number in range(workers)]
    return [Pages(a, b) for a, b in zip(borders, [*borders[1:], None], strict=True)]


def copy_table(table: TableSource, pages: Pages | None) -> Composed:
    """COPY takes no bound values, and names cannot be bound at all: psycopg quotes them."""
    query = SQL("SELECT {} FROM {}").format(selected(table.columns), name_of(table))
    if pages is not None:
        query += SQL(" WHERE ctid >= {}").format(_tid(pages.begin))
        if pages.end is not None:
            query += SQL(" AND ctid < {}").format(_tid(pages.end))
    return _copy(query)


def lock_table(table: TableSource, *, or_fail: bool = False) -> Composed:
    """Hold off TRUNCATE and ALTER: the rows that they take away are not kept for old snapshots."""
    query = SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(name_of(table))
    return query + SQL(" NOWAIT") if or_fail else query


def copy_query(query: Composable, columns: Sequence[Column]) -> Composed:
    """COPY of the named columns of a query's result, in the order of its rows."""
    return _copy(SQL("SELECT {} FROM ({}) AS found").format(selected(columns), query))


def selected(columns: Sequence[Column]) -> Composed:
    """Columns as they lie in the heap: a cast costs the server as much as the row. Numeric alone is text."""
    names = [SQL("{}::text").format(Identifier(c.name)) if c.as_text else Identifier(c.name) for c in columns]
    return SQL(", ").join(names)


def name_of(table: TableSource) -> Composed:
    return Composed([Identifier(table.schema, table.name)])


def _copy(query: Composed) -> Composed:
    return SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)


def _tid(page: int) -> Composable:
    return SQL("{}::tid").format(Literal(f"({page},0)"))
