"""Tables and facts of a page as texts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.pages.plots import number
from ridelake.text import digits

QUANTITY = re.compile(r"\d[\d,.]*( \S{1,3}|×)?|–")  # 12,345; 1.23 ms; 2.5×
ROWS_MAX = 40  # of a table, so that a page stays small


@dataclass(frozen=True, slots=True)
class PageTable:
    """`numeric`: the numbers of the right-aligned columns, from 1. `more`: the number of rows left out."""

    title: str
    columns: list[str]
    numeric: list[int]
    rows: list[list[str]]
    more: int


@dataclass(frozen=True, slots=True)
class PageFacts:
    """Terms with one value, and those with rows."""

    terms: dict[str, str]
    tables: list[PageTable]


def table_of(rows: Sequence[Mapping[str, Any]], title: str = "", rows_max: int = ROWS_MAX) -> PageTable:
    """A table with a column for each name in any row."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    numeric = [n for n, name in enumerate(columns, 1) if all(_is_number(row.get(name)) for row in rows)]
    cells = [[cell_text(row.get(name)) for name in columns] for row in rows[:rows_max]]
    more = max(0, len(rows) - rows_max)
    return PageTable(title, [str(name).replace("_", " ") for name in columns], numeric, cells, more)


def facts_of(values: Mapping[str, Any]) -> PageFacts:
    """Facts as a list of terms; a fact that is a list of rows becomes a table."""
    tables = {name: value for name, value in values.items() if _is_rows(value)}
    terms = {str(name): cell_text(value) for name, value in values.items() if name not in tables}
    return PageFacts(terms, [table_of(rows, str(name)) for name, rows in tables.items()])


def cell_text(value: Any) -> str:
    """The text of a cell or a fact."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return digits(value) if number(value) is not None else "–"
    if isinstance(value, list):
        return ", ".join(map(cell_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell_text(one)}" for name, one in value.items())
    return "–" if value is None else str(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return QUANTITY.fullmatch(value) is not None
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
