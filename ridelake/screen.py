"""What the user sees: answers alone on stdout, everything else on stderr."""

import json
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ridelake import progress

if TYPE_CHECKING:
    from rich.text import Text

PIPED_COLUMNS = 200
DRAWING_COLUMNS_MAX = 100  # wider, the eye loses the line


def note(text: str) -> None:
    """A remark on stderr."""
    progress.hide()
    print(text, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """A line of the answer, on stdout."""
    progress.hide()
    print(text, flush=True)


def say_json(report: Any, *, one_line: bool = False) -> None:
    """A report as one JSON document on stdout. What JSON has no word for is written as text."""
    progress.hide()
    print(json.dumps(report, indent=None if one_line else 2, default=str, ensure_ascii=False), flush=True)


def say_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str | None = None,
    fold: str | None = None,
    dense: bool = False,
) -> None:
    """An aligned table on stdout; numbers stand to the right. Where it is too wide, cells are folded: those
    of the column `fold` alone, if one is named. `dense` saves room between the columns, and leaves the first
    one whole."""
    from rich.console import Console  # here, because only tables need it and every command pays for it
    from rich.table import Table
    from rich.text import Text

    progress.hide()
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.collapse_padding = dense
    for index, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        whole = (dense and index == 0) or fold not in (None, column)
        justify: Literal["left", "right"] = "right" if numbers else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(grouped(value)) for value in row))
    # A program or a file has room; COLUMNS says otherwise.
    piped = None if sys.stdout.isatty() else shutil.get_terminal_size((PIPED_COLUMNS, 0)).columns
    Console(highlight=False, width=piped).print(table)


def drawing_columns() -> int:
    """How wide a drawing may be: what COLUMNS says, or the terminal behind any of our streams."""
    from rich.console import Console

    return min(Console().width, DRAWING_COLUMNS_MAX)


def draw(lines: "Sequence[Text]", *, on_stderr: bool = False) -> None:
    """Lines of a drawing; coloured on a terminal that wants it, wrapped between words."""
    from rich.console import Console  # here, as in `say_table`

    progress.hide()
    console = Console(highlight=False, width=drawing_columns(), stderr=on_stderr)
    for line in lines:
        console.print(line)


def grouped(value: object) -> str:
    """1234567 → 1,234,567; 0.12345 → 0.123; None → empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return "" if value is None else str(value)
