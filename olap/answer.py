"""Whether two answers are equal, the checksum of an answer, and the comparison of several engines.

Engines agree on values but not on types: a sum of integers is `numeric` in Postgres, `decimal(38,0)`
(HUGEINT) in DuckDB and `int64` in Polars; text is `string`, `large_string` or a dictionary. So values are
normalized (`olap.normalize`) and then compared:

    integers, decimals      exactly; 20.40 equals 20.4
    doubles                 with relative tolerance 1e-9, including against an exact number; NaN equals NaN
    text, bytes, booleans   exactly; a number never equals text or a boolean
    timestamps              in UTC; without time zone they are taken as UTC, a date as its midnight
    null                    equals null, for any type of the column

Column names are not compared, because each engine names `AVG(Price)` differently.
"""

import datetime as dt
import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa

from olap.normalize import (
    IntervalValue,
    NormalizedValue,
    UtcTimestamp,
    holds_doubles,
    normalized_values,
    type_kind,
    widen_column,
)
from ridelake.errors import ProofFailed
from ridelake.text import listed

if TYPE_CHECKING:
    from olap.question import Question


# Addition of doubles is not associative, and engines add in different orders (threads, vectors, partial
# sums). Over 100 million rows this changes a sum by a relative 1e-12. Wrong answers differ by far more than
# 1e-9.
RELATIVE_TOLERANCE = 1e-9

# Maximum distance of two nearly equal rows after sorting by doubles that differ in their last digits.
PAIRING_WINDOW = 64

Row = tuple[NormalizedValue, ...]


def difference(
    reference: pa.Table,
    other: pa.Table,
    *,
    ordered: bool = True,
    names: tuple[str, str] = ("the first", "the second"),
) -> str | None:
    """None if the two answers are equal, else one line that names the first row and column that differ.

    With `ordered=False` the rows are compared as a multiset, because SQL without ORDER BY defines no
    order."""
    ours, theirs = names
    if reference.num_columns != other.num_columns:
        return f"{ours} has {reference.num_columns} columns, {theirs} {other.num_columns}"
    for index, pair in enumerate(zip(reference.columns, other.columns, strict=True)):
        left, right = (type_kind(column.type) for column in pair)
        if left != right and all(column.null_count < len(column) for column in pair):
            return f"{_column(reference, index)}: {left} in {ours}, {right} in {theirs}"
    if reference.num_rows != other.num_rows:
        return f"{ours} has {reference.num_rows:,} rows, {theirs} {other.num_rows:,}"
    place = _first_unequal(reference, other)
    if place is None:
        return None
    unpaired = None if _sorted_alike(reference, other) else _first_unpaired(reference, other)
    if unpaired is None:
        return f"from row {place[0] + 1} on, {_order_differs(reference)}" if ordered else None
    if not ordered:
        return f"row {unpaired + 1} of {ours} is not in {theirs}: {_row_text(reference, unpaired)}"
    row, column = place
    values = [table_text(table, row, column) for table in (reference, other)]
    return f"row {row + 1}, {_column(reference, column)}: {values[0]} in {ours}, {values[1]} in {theirs}"


def _order_differs(answer: pa.Table) -> str:
    message = "the same rows are in a different order; the ORDER BY has ties, so add columns to it"
    if any(column.null_count for column in answer.columns):  # engines place nulls differently
        message += ", or add NULLS FIRST or NULLS LAST"
    return message


def checksum(answer: pa.Table, *, ordered: bool = True) -> str:
    """16 hex digits, the same for equal answers. Numbers are rounded to nine significant digits, so that the
    last digits of doubles do not matter. Use `difference` to test equality."""
    columns = [[_digest_text(cell) for cell in normalized_values(column)] for column in answer.columns]
    lines = [",".join(row) for row in zip(*columns, strict=True)]
    if not ordered:
        lines.sort()
    return hashlib.sha256("\n".join([str(answer.num_columns), *lines]).encode()).hexdigest()[:16]


def table_text(table: pa.Table, row: int, column: int) -> str:
    """One value as text for a message."""
    return _text(normalized_values(table.column(column).slice(row, 1))[0])


def same(left: NormalizedValue, right: NormalizedValue) -> bool:
    """Whether two normalized values are equal."""
    if left is None or right is None:
        return left is right
    if isinstance(left, float) or isinstance(right, float):
        return _close(left, right)
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def _close(left: NormalizedValue, right: NormalizedValue) -> bool:
    if not _is_number(left) or not _is_number(right):
        return False
    a, b = float(left), float(right)  # type: ignore[arg-type]
    return math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE) or (math.isnan(a) and math.isnan(b))


def _is_number(cell: NormalizedValue) -> bool:
    return isinstance(cell, int | float | Decimal) and not isinstance(cell, bool)


def _first_unequal(reference: pa.Table, other: pa.Table) -> tuple[int, int] | None:
    """(row, column) of the first difference in row order. Columns with equal buffers are compared by
    Arrow."""
    first: tuple[int, int] | None = None
    for index in range(reference.num_columns):
        end = reference.num_rows if first is None else first[0]  # only earlier rows matter
        left, right = (widen_column(table.column(index).slice(0, end)) for table in (reference, other))
        if left.type == right.type and left.equals(right):
            continue
        pairs = enumerate(zip(normalized_values(left), normalized_values(right), strict=True))
        row = next((row for row, (a, b) in pairs if not same(a, b)), None)
        if row is not None:
            first = (row, index)
    return first


def _sorted_alike(reference: pa.Table, other: pa.Table) -> bool:
    """Whether the two are equal after sorting by Arrow. This is the fast path for large answers in different
    orders. False proves nothing: doubles that differ in their last digits may sort differently."""
    doubles = _double_columns(reference, other)
    # Doubles are the last sort keys.
    keys = sorted((index in doubles, str(index)) for index in range(reference.num_columns))
    by = [(name, "ascending") for _, name in keys]
    names = [str(index) for index in range(reference.num_columns)]
    tables = [
        pa.Table.from_arrays([widen_column(c) for c in table.columns], names) for table in (reference, other)
    ]
    try:
        left, right = (table.sort_by(by) for table in tables)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):  # lists have no order
        return False
    return _first_unequal(left, right) is None


def _double_columns(reference: pa.Table, other: pa.Table) -> set[int]:
    """Indexes of the columns that contain doubles in either table."""
    pairs = enumerate(zip(reference.schema.types, other.schema.types, strict=True))
    return {index for index, pair in pairs if any(map(holds_doubles, pair))}


def _first_unpaired(reference: pa.Table, other: pa.Table) -> int | None:
    """Index of the first row of `reference` without an equal row in `other`; each row pairs once.

    Rows are grouped by their exact values, so only doubles can differ within a group."""
    doubles = sorted(_double_columns(reference, other))
    exact = [index for index in range(reference.num_columns) if index not in doubles]
    ours: dict[Row, list[tuple[Row, int]]] = defaultdict(list)
    theirs: dict[Row, list[Row]] = defaultdict(list)
    for number, row in enumerate(_rows(reference)):
        ours[tuple(row[i] for i in exact)].append((tuple(row[i] for i in doubles), number))
    for row in _rows(other):
        theirs[tuple(row[i] for i in exact)].append(tuple(row[i] for i in doubles))
    return min((n for key, mine in ours.items() for n in _unpaired(mine, theirs.get(key, []))), default=None)


def _rows(table: pa.Table) -> Iterator[Row]:
    return zip(*(normalized_values(column) for column in table.columns), strict=True)


def _unpaired(mine: list[tuple[Row, int]], theirs: list[Row]) -> Iterator[int]:
    """Indexes of the rows without a partner. Both sides are sorted, so a partner is within PAIRING_WINDOW."""
    supply = iter(sorted(theirs, key=_sort_key))
    waiting: list[Row] = []
    for row, number in sorted(mine, key=lambda pair: _sort_key(pair[0])):
        found = next((place for place, other in enumerate(waiting) if same(row, other)), None)
        while found is None and len(waiting) < PAIRING_WINDOW and (other := next(supply, None)) is not None:
            waiting.append(other)
            found = len(waiting) - 1 if same(row, other) else None
        if found is None:
            yield number
        else:
            waiting.pop(found)


def _sort_key(row: Row) -> tuple[tuple[int, float, str], ...]:
    def key(cell: NormalizedValue) -> tuple[int, float, str]:
        if _is_number(cell):
            value = float(cell)  # type: ignore[arg-type]
            return (1, 0.0, "") if math.isnan(value) else (0, value, "")
        return (2, 0.0, _digest_text(cell))

    return tuple(key(cell) for cell in row)


def _column(table: pa.Table, index: int) -> str:
    return f"column {index + 1} ({table.schema.names[index]})"


def _row_text(table: pa.Table, row: int) -> str:
    return ", ".join(table_text(table, row, index) for index in range(table.num_columns))


def _text(cell: NormalizedValue) -> str:
    if cell is None:
        return "null"
    if isinstance(cell, tuple):
        return f"[{', '.join(map(_text, cell))}]"
    return repr(cell) if isinstance(cell, str | bytes | float) else str(cell)


def _digest_text(cell: NormalizedValue) -> str:
    """Text that is the same for equal values, and different for values of different kinds."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return f"b{cell:d}"
    if isinstance(cell, int | float | Decimal):
        return f"n{float(cell) + 0.0:.9g}"  # + 0.0 turns -0.0 into 0.0
    if isinstance(cell, UtcTimestamp):
        return f"m{cell.ns}"
    if isinstance(cell, IntervalValue):
        return f"s{cell.months}+{cell.ns}"
    if isinstance(cell, dt.time):
        return f"c{cell.isoformat('microseconds')}"
    if isinstance(cell, tuple):
        return f"[{','.join(map(_digest_text, cell))}]"
    return repr(cell)  # text and bytes: quoted, because the text may contain separators


class AnswersDiffer(ProofFailed):
    """The engines gave different answers. `rows`: number of rows by engine; `trusted`: the engines that share
    the answer of the majority, empty without a majority."""

    def __init__(self, message: str, rows: "dict[str, int]", trusted: frozenset[str]) -> None:
        super().__init__(message)
        self.rows = rows
        self.trusted = trusted


def compare_answers(question: "Question", answers: "dict[str, pa.Table]") -> None:
    """Compare the answers of all engines. Raises AnswersDiffer unless all answers are equal."""
    reference, *others = answers
    if not others:
        return
    found = {
        name: difference(answers[reference], answers[name], ordered=question.ordered, names=(reference, name))
        for name in others
    }
    if not any(found.values()):
        return
    differing = "; ".join(message for message in found.values() if message)
    if equal := [name for name, message in found.items() if message is None]:
        differing += f"; {listed(equal)} {'agrees' if len(equal) == 1 else 'agree'} with {reference}"
    raise AnswersDiffer(
        f"✗ the answers differ, so no times are shown: {differing}",
        {name: answer.num_rows for name, answer in answers.items()},
        _trusted(question, answers),
    )


def _trusted(question: "Question", answers: "dict[str, pa.Table]") -> frozenset[str]:
    """The engines that share the answer of more than half of all."""
    groups: list[list[str]] = []
    for name, answer in answers.items():
        alike = (g for g in groups if difference(answers[g[0]], answer, ordered=question.ordered) is None)
        group = next(alike, None)
        if group is None:
            groups.append(group := [])
        group.append(name)
    largest = max(groups, key=len)
    return frozenset(largest if 2 * len(largest) > len(answers) else ())
