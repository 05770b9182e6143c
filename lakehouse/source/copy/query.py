"""The COPY of a table, complete or by ranges of heap pages."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from lakehouse.source.tables import TableSource, select_list
from lakehouse.table.columns import SourceColumn

# With fewer pages per worker, another worker costs more time than it saves.
WORKER_PAGES_MIN = 2_048


@dataclass(frozen=True, slots=True)
class PageRange:
    """The pages from `begin` to before `end`; None: to the end of the table."""

    begin: int
    end: int | None


def split_pages(pages: int, workers: int) -> list[PageRange | None]:
    """A range of pages for each worker; [None], the complete table, if one worker is enough."""
    workers = min(workers, pages // WORKER_PAGES_MIN)
    if workers < 2:
        return [None]
    borders = [pages * number // workers for number in range(workers)]
    return [PageRange(a, b) for a, b in zip(borders, [*borders[1:], None], strict=True)]


def copy_table(table: TableSource, pages: PageRange | None) -> Composed:
    """The COPY of the table. COPY has no parameters, so psycopg quotes the values and identifiers."""
    query = SQL("SELECT {} FROM {}").format(select_list(table.columns), table.rows)
    if pages is not None:
        query += SQL(" WHERE ctid >= {}").format(_tid(pages.begin))
        if pages.end is not None:
            query += SQL(" AND ctid < {}").format(_tid(pages.end))
    return _copy(query)


def lock_table(table: TableSource, *, or_fail: bool = False) -> Composed:
    """Lock against TRUNCATE and ALTER, which remove rows also for older snapshots."""
    query = SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(name_of(table))
    return query + SQL(" NOWAIT") if or_fail else query


def copy_query(query: Composable, columns: Sequence[SourceColumn]) -> Composed:
    """COPY of the named columns of a query's result, in the order of its rows."""
    names = SQL(", ").join(Identifier(column.name) for column in columns)
    return _copy(SQL("SELECT {} FROM ({}) AS found").format(names, query))


def name_of(table: TableSource) -> Composed:
    return Composed([Identifier(table.schema, table.name)])


def _copy(query: Composed) -> Composed:
    return SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)


def _tid(page: int) -> Composable:
    return SQL("{}::tid").format(Literal(f"({page},0)"))
