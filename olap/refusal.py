"""Format the error of a rejected query: the engine's message, the line with a caret, and one hint."""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.epoch import Epoch

    Relations = Mapping[str, pa.Schema]

LIKENESS_MIN = 0.7  # of difflib: accepts fare_cent for fare_cents, not Stanford for transfer_id

_OWN_HINT = re.compile(
    r"did you mean|candidate|perhaps you meant|\bhint\b|valid columns|similar", re.IGNORECASE
)
_QUOTED = re.compile(r"""["'`]([^"'`\n]+)["'`]""")
_BARE = re.compile(
    r"(?:column|table|relation|identifier|field|view)(?: with)?(?: named?)? (\w+(?:\.\w+)*)", re.IGNORECASE
)
# The format of sqlparser (Polars, DataFusion), which reports the position without showing the line.
_PLACE = re.compile(r" at Line: (\d+), Column: (\d+)")
_UNKNOWN = re.compile(
    r"not (?:be )?(?:found|exist)|no such|unable to find|unknown|unresolved|no field", re.IGNORECASE
)


def sentence(message: str) -> str:
    """The error message of the engine, up to `LINE 1:` or an empty line."""
    lines = message.splitlines()
    end = next((n for n, line in enumerate(lines) if not line.strip() or line.startswith("LINE ")), None)
    return " ".join(lines[:end])


def drawing(message: str, query: str) -> str:
    """`LINE 1: …` with a caret below, from the engine or from the position in its message; else empty."""
    lines = message.splitlines()
    begin = next((n for n, line in enumerate(lines) if line.startswith("LINE ")), len(lines))
    if begin < len(lines) or (found := _PLACE.search(message)) is None:
        return "\n".join(lines[begin:])
    number, column = int(found[1]), int(found[2])
    query_lines = query.splitlines()
    if not (1 <= number <= len(query_lines) and 1 <= column <= len(query_lines[number - 1]) + 1):
        return ""
    head = f"LINE {number}: "
    return f"{head}{query_lines[number - 1]}\n{' ' * (len(head) + column - 1)}^"


def missing_table(query: str, epoch: "Epoch") -> str | None:
    """Why a table in the query is not in the epoch; None if all are, or are unknown."""
    for name, reason in zip(epoch.left_out, epoch.missing(), strict=True):
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", query, re.IGNORECASE):
            return reason
    return None


def hint(message: str, query: str, relations: "Callable[[], Relations]") -> str | None:
    """A hint for a misspelt name or a wrong quote; None if the engine gave one itself or none is found.
    `relations` is called only if the error is about a name."""
    if found := re.search(r'column "([^"]+)" not found', message):
        if f'"{found[1]}"' in query:
            return f"write text in single quotes: '{found[1]}'"
        if text := re.fullmatch("[‘’“”](.*)[‘’“”]", found[1]):
            return f"these quotes are typographic; write '{text[1]}'"
    if _OWN_HINT.search(message) or not _UNKNOWN.search(message):
        return None
    named = [
        name for name in _QUOTED.findall(message) + _BARE.findall(message) if name.lower() in query.lower()
    ]
    if not named:
        return None
    known = relations()
    tables = {name.lower(): name for name in known}
    columns = {name.lower(): name for schema in known.values() for name in schema.names}
    for name in named:
        last = name.rsplit(".", 1)[-1].lower()
        if last in tables or last in columns:
            continue
        nearest = difflib.get_close_matches(last, [*columns, *tables], n=1, cutoff=LIKENESS_MIN)
        if nearest:
            return f"did you mean {columns.get(nearest[0]) or tables[nearest[0]]}?"
        if f'"{name}"' in query:
            return f"write text in single quotes: '{name}'"
        return r"\d lists the tables, \d TABLE its columns"
    return None
