"""When are two answers equal? And a short name for an answer: its checksum.

Engines agree on values, not on types: a sum of integers is `numeric` in Postgres, `decimal(38,0)` from
DuckDB's HUGEINT and `int64` in Polars; text is `string`, `large_string` or a dictionary. So each value is
brought to one form (`olap.cells`), and the forms are compared:

    integers, decimals   exactly; 20.40 is 20.4
    doubles              to a relative 1e-9, and so is an exact number beside a double; NaN is NaN
    text, bytes, truth   exactly; a number is never equal to a text or to a truth value
    moments              in UTC; without a zone taken as UTC, a date as its midnight
    null                 is null, whatever the type of its column

Names of columns do not count: each engine names `AVG(Price)` in its own way.
"""

import datetime as dt
import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

import pyarrow as pa

from olap.cells import Cell, Moment, Span, cells, holds_doubles, kind, settled

# Addition of doubles is not associative, and each engine adds in an order of its own (threads, vectors,
# partial sums): over a hundred million rows that moves a sum by some 1e-12 of itself. A wrong answer is
# wrong by far more than 1e-9.
RELATIVE_TOLERANCE = 1e-9

# How far apart two nearly equal rows may stand after sorting by doubles whose last digits differ.
PAIRING_WINDOW = 64

Row = tuple[Cell, ...]


def difference(
    reference: pa.Table,
    other: pa.Table,
    *,
    ordered: bool = True,
    names: tuple[str, str] = ("the first", "the second"),
) -> str | None:
    """None if the two answers are equal, else one line that names the first row and column that differ.

    With `ordered` false the rows are compared as a bag: SQL without ORDER BY promises no order."""
    ours, theirs = names
    if reference.num_columns != other.num_columns:
        return f"{ours} has {reference.num_columns} columns, {theirs} {other.num_columns}"
    for index, (left, right) in enumerate(zip(reference.columns, other.columns, strict=True)):
        if kind(left.type) != kind(right.type) and not _is_all_null(left) and not _is_all_null(right):
            where = _column(reference, index)
            return f"{where}: {kind(left.type)} in {ours}, {kind(right.type)} in {theirs}"
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
    """Sixteen hex digits that equal answers share, for records. Every number is taken to nine significant
    digits, so that the engines' last digits do not matter; it names an answer and does not prove it:
    equality is what `difference` says."""
    columns = [[_digest_text(cell) for cell in cells(column)] for column in answer.columns]
    lines = [",".join(row) for row in zip(*columns, strict=True)]
    if not ordered:
        lines.sort()
    return hashlib.sha256("\n".join([str(answer.num_columns), *lines]).encode()).hexdigest()[:16]


def table_text(table: pa.Table, row: int, column: int) -> str:
    """One value, as a person reads it."""
    return _text(cells(table.column(column).slice(row, 1))[0])


def same(left: Cell, right: Cell) -> bool:
    """Whether two values are the same value."""
    if left is None or right is None:
        return left is right
    if isinstance(left, float) or isinstance(right, float):
        return _close(left, right)
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def _close(left: Cell, right: Cell) -> bool:
    if not _is_number(left) or not _is_number(right):
        return False
    a, b = float(left), float(right)  # type: ignore[arg-type]
    return math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE) or (math.isnan(a) and math.isnan(b))


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float | Decimal) and not isinstance(cell, bool)


def _is_all_null(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count == len(column))


def _first_unequal(reference: pa.Table, other: pa.Table) -> tuple[int, int] | None:
    """(row, column) of the first difference, row by row. A column whose bytes are equal costs no Python."""
    first: tuple[int, int] | None = None
    for index in range(reference.num_columns):
        end = reference.num_rows if first is None else first[0]  # only an earlier row can be better
        left, right = (settled(table.column(index).slice(0, end)) for table in (reference, other))
        if left.type == right.type and left.equals(right):
            continue
        pairs = enumerate(zip(cells(left), cells(right), strict=True))
        row = next((row for row, (a, b) in pairs if not same(a, b)), None)
        if row is not None:
            first = (row, index)
    return first


def _sorted_alike(reference: pa.Table, other: pa.Table) -> bool:
    """Whether the two are equal once Arrow has sorted both: the quick yes, for large answers in two orders.
    A no proves nothing, because doubles that differ in their last digits may be sorted differently."""
    rough = _rough_columns(reference, other)
    keys = sorted(
        (index in rough, str(index)) for index in range(reference.num_columns)
    )  # doubles decide last
    by = [(name, "ascending") for _, name in keys]
    names = [str(index) for index in range(reference.num_columns)]
    tables = [
        pa.Table.from_arrays([settled(c) for c in table.columns], names) for table in (reference, other)
    ]
    try:
        left, right = (table.sort_by(by) for table in tables)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):  # lists have no order
        return False
    return _first_unequal(left, right) is None


def _rough_columns(reference: pa.Table, other: pa.Table) -> set[int]:
    """Columns that hold doubles on either side."""
    pairs = enumerate(zip(reference.schema.types, other.schema.types, strict=True))
    return {index for index, pair in pairs if any(map(holds_doubles, pair))}


def _first_unpaired(reference: pa.Table, other: pa.Table) -> int | None:
    """The first row of the reference that has no equal row in the other, each used once.

    Rows are sorted into groups by their exact values; inside a group only doubles can differ."""
    rough = sorted(_rough_columns(reference, other))
    exact = [index for index in range(reference.num_columns) if index not in rough]
    ours: dict[Row, list[tuple[Row, int]]] = defaultdict(list)
    theirs: dict[Row, list[Row]] = defaultdict(list)
    for number, row in enumerate(_rows(reference)):
        ours[tuple(row[i] for i in exact)].append((tuple(row[i] for i in rough), number))
    for row in _rows(other):
        theirs[tuple(row[i] for i in exact)].append(tuple(row[i] for i in rough))
    return min((n for key, mine in ours.items() for n in _left_over(mine, theirs.get(key, []))), default=None)


def _rows(table: pa.Table) -> Iterator[Row]:
    return zip(*(cells(column) for column in table.columns), strict=True)


def _left_over(mine: list[tuple[Row, int]], theirs: list[Row]) -> Iterator[int]:
    """Numbers of my rows that find no partner. Both sides are sorted, so a partner is never far."""
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
    def key(cell: Cell) -> tuple[int, float, str]:
        if _is_number(cell):
            value = float(cell)  # type: ignore[arg-type]
            return (1, 0.0, "") if math.isnan(value) else (0, value, "")
        return (2, 0.0, _digest_text(cell))

    return tuple(key(cell) for cell in row)


def _column(table: pa.Table, index: int) -> str:
    return f"column {index + 1} ({table.schema.names[index]})"


def _row_text(table: pa.Table, row: int) -> str:
    return ", ".join(table_text(table, row, index) for index in range(table.num_columns))


def _text(cell: Cell) -> str:
    if cell is None:
        return "null"
    if isinstance(cell, tuple):
        return f"[{', '.join(map(_text, cell))}]"
    return repr(cell) if isinstance(cell, str | bytes | float) else str(cell)


def _digest_text(cell: Cell) -> str:
    """A text that two cells share if they are equal, and that no cell of another kind has."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return f"b{cell:d}"
    if isinstance(cell, int | float | Decimal):
        return f"n{float(cell) + 0.0:.9g}"  # + 0.0 makes 0 of -0
    if isinstance(cell, Moment):
        return f"m{cell.ns}"
    if isinstance(cell, Span):
        return f"s{cell.months}+{cell.ns}"
    if isinstance(cell, dt.time):
        return f"c{cell.isoformat('microseconds')}"
    if isinstance(cell, tuple):
        return f"[{','.join(map(_digest_text, cell))}]"
    return repr(cell)  # text and bytes: quoted and escaped, so no comma or line end of theirs is ours
