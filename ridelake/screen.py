"""Output for the user: answers on stdout, everything else on stderr."""

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO

from ridelake import progress
from ridelake.text import cells, fitted, grouped, wrapped

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

PIPED_COLUMNS = 200
DRAWING_COLUMNS_MAX = 100  # longer lines are hard to read
NUMBER = re.compile(r"[-+]?[0-9][0-9.,]*[%×]?|[–-]?")


def note(text: str, *, verbatim: bool = False) -> None:
    """Print a remark on stderr, wrapped between words; `verbatim` text is printed unchanged."""
    progress.hide()
    print(text if verbatim else wrapped(text, columns_of(sys.stderr)), file=sys.stderr, flush=True)


def say(text: str, *, verbatim: bool = False) -> None:
    """Print a line of the answer on stdout, as `note` does on stderr."""
    progress.hide()
    print(text if verbatim else wrapped(text, columns_of(sys.stdout)), flush=True)


def columns_of(stream: TextIO) -> int | None:
    """The value of COLUMNS, or the width of the stream's terminal; None for a file or a pipe."""
    if columns := shutil.get_terminal_size((0, 0)).columns:
        return columns
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else None
    except (OSError, ValueError):  # a stream without a file behind it
        return None


def say_json(report: Any, *, one_line: bool = False) -> None:
    """Print a report as one JSON document on stdout. A value that JSON cannot represent is written as
    text."""
    progress.hide()
    print(json.dumps(report, indent=None if one_line else 2, default=str, ensure_ascii=False), flush=True)


def say_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str | None = None,
    dense: bool = False,
    on_stderr: bool = False,
) -> None:
    """Print an aligned table, numbers right-aligned. If it is too wide, cells wrap between words; if the
    longest words do not fit in one line, each row becomes lines of column and value. `dense` uses one space
    between columns and does not wrap the first column."""
    from rich.console import Console  # imported here, because it is slow and only tables need it

    stream = sys.stderr if on_stderr else sys.stdout
    width = columns_of(stream) or PIPED_COLUMNS
    texts = [[grouped(value) for value in row] for row in rows]
    gap = 1 if dense else 2
    widths = _widths([columns, *texts], width - gap * (len(columns) - 1), whole_first=dense)
    if sum(widths) + gap * (len(columns) - 1) <= width:
        numbers = [
            bool(rows) and all(NUMBER.fullmatch(row[index]) for row in texts) for index in range(len(columns))
        ]
        tables: list[Table | Text] = [_table(columns, texts, widths, numbers, title, dense)]
    else:
        tables = [_record(columns, row, width, title if row is texts[0] else None) for row in texts]
    console = Console(highlight=False, width=width, stderr=on_stderr)
    for number, table in enumerate(tables):
        console.print(*([""] if number else []), table, sep="\n")


def _widths(rows: Sequence[Sequence[str]], available: int, *, whole_first: bool = False) -> list[int]:
    """Widths of the columns: the width of the widest cell, reduced if needed to that of the longest word."""
    columns = list(zip(*rows, strict=True))
    widths = [max(cells(line) for text in texts for line in text.split("\n")) for texts in columns]
    words = [max(max(map(cells, text.split()), default=0) for text in texts) for texts in columns]
    if whole_first:
        words[0] = widths[0]
    return fitted(widths, words, available)


def _table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    numbers: Sequence[bool],
    title: str | None,
    dense: bool,
) -> "Table":
    from rich.table import Table
    from rich.text import Text

    progress.hide()
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.collapse_padding = dense
    for column, width, number in zip(columns, widths, numbers, strict=True):
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(column, justify=justify, overflow="fold", width=width)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _record(columns: Sequence[str], row: Sequence[str], width: int, title: str | None) -> "Table | Text":
    """One row as a line per column, the values to the right of the names if the longest words fit."""
    from rich.text import Text

    pairs = [(column.replace("\n", " "), text) for column, text in zip(columns, row, strict=True)]
    for whole in (True, False):
        widths = _widths(pairs, width - 2, whole_first=whole)
        if sum(widths) + 2 <= width:
            table = _table(("", ""), pairs, widths, (False, False), title, False)
            table.show_header = False
            return table
    lines = [*([title] if title else []), *(f"{name}: {text}" for name, text in pairs)]
    return Text(wrapped("\n".join(lines), width), no_wrap=True, overflow="ignore")


def drawing_columns() -> int:
    """The width of a drawing: COLUMNS, or the width of the terminal of a standard stream."""
    from rich.console import Console

    return min(Console().width, DRAWING_COLUMNS_MAX)


def draw(lines: "Sequence[Text]", *, on_stderr: bool = False) -> None:
    """Print the lines of a drawing, wrapped between words, with colours if the terminal supports them."""
    from rich.console import Console  # imported here, as in `say_table`

    progress.hide()
    console = Console(highlight=False, width=drawing_columns(), stderr=on_stderr)
    for line in lines:
        console.print(line)
