"""Format an answer for the terminal: as a table, or with one column a line (`\\x`)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from olap.formats import aligned, table_columns, text_rows
from ridelake.screen import cells, wrapped

if TYPE_CHECKING:
    import pyarrow as pa

Expanded = Literal["auto", "on", "off"]


def table_lines(answer: "pa.Table", columns: int, expanded: Expanded = "auto") -> list[str]:
    """Lines for a terminal of that many columns. Text may be truncated and then ends in …; numbers and times
    are not truncated. `auto`: expand the rows if they are still too wide."""
    if expanded != "on":
        lines = list(aligned(table_columns(answer), list(text_rows(answer)), columns))
        if expanded == "off" or not answer.num_rows or max(map(cells, lines)) <= columns:
            return lines
    return list(_expanded(answer, columns))


def _expanded(answer: "pa.Table", columns: int) -> Iterator[str]:
    names = [name for name, _, _ in table_columns(answer)]
    width = max(map(cells, names), default=0)
    for number, row in enumerate(text_rows(answer), 1):
        head = f"─[ row {number:,} ]"
        yield head + "─" * (min(columns, 60) - len(head))
        for name, text in zip(names, row, strict=True):
            first, *more = wrapped(text, max(columns - width - 2, 16)).split("\n")
            yield f"{name}{' ' * (width - cells(name))}  {first}".rstrip()
            yield from (" " * (width + 2) + line for line in more)
