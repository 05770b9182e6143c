"""Tables and facts of a page as texts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.pages.plots import number
from ridelake.text import digits, duration

QUANTITY = re.compile(r"\d[\d,.]*( \S{1,3}|×)?|–")  # 12,345; 1.23 ms; 2.5×
TIMED = re.compile(r"(^|[_ ])seconds$")
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
    """A table with a column for each name in any row. Seconds are shown as times with a unit."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = [n for n, name in enumerate(names, 1) if all(_is_number(row.get(name)) for row in rows)]
    timed = {name for name in names if TIMED.search(str(name))}
    cells = [[cell_text(row.get(name), timed=name in timed) for name in names] for row in rows[:rows_max]]
    columns = [TIMED.sub("", str(name)).replace("_", " ") or "time" for name in names]
    return PageTable(title, columns, numeric, cells, max(0, len(rows) - rows_max))


def facts_of(values: Mapping[str, Any]) -> PageFacts:
    """Facts as a list of terms; a fact that is a list of rows becomes a table."""
    tables = {name: value for name, value in values.items() if _is_rows(value)}
    terms = {str(name): cell_text(value) for name, value in values.items() if name not in tables}
    return PageFacts(terms, [table_of(rows, str(name)) for name, rows in tables.items()])


def cell_text(value: Any, *, timed: bool = False) -> str:
    """The text of a cell or a fact. `timed`: a number of seconds."""
    if timed and (seconds := number(value)):
        return duration(seconds)
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


def css_string(text: str) -> str:
    """The text as a string of CSS: other characters than letters, digits and spaces are escaped."""
    return f'"{re.sub(r"[^a-zA-Z0-9 ]", lambda one: f"{chr(92)}{ord(one[0]):x} ", text)}"'


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return QUANTITY.fullmatch(value) is not None
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
