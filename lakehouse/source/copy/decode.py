"""Decode the rows of COPY BINARY into sorted runs.

A `RunBuffer` is filled by the compiled loop and gives its rows in the order of the sort key, in pieces. It is
used for large tables, and again for each run of a worker.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.source.copy import loop
from lakehouse.source.copy.memory import (
    INTEGER,
    LONG,
    SLACK_BYTES,
    TEXT,
    Bytes,
    Ints,
    Longs,
    Memory,
    plan_of,
    row_bytes,
    words_of,
)
from lakehouse.source.copy.sorting import sort_order
from lakehouse.source.copy.values import (
    TOO_MANY_DIGITS,
    check_digits,
    check_time_of_day,
    from_binary,
    torn,
    wrong_columns,
    wrong_width,
)
from lakehouse.table.columns import SourceColumn, UnsupportedValue, arrow_schema
from lakehouse.table.layout import ROW_GROUP_ROWS

# Few enough that a piece is small beside a run, and enough that the processor's cache is used well.
PIECE_ROWS = ROW_GROUP_ROWS // 3

UUID_LETTERS = 36

NOT_HELD = {
    loop.INFINITY: "infinity",
    loop.OUTSIDE: "a time outside of Arrow's range",
    loop.NAN: "NaN",
    loop.DIGITS: TOO_MANY_DIGITS,
}


class RunBuffer:
    """Memory for at most `rows_max` rows and about `bytes_max` bytes; it is used again for the next run."""

    def __init__(self, columns: Sequence[SourceColumn], rows_max: int, bytes_max: int) -> None:
        self.rows_max = max(min(rows_max, bytes_max // row_bytes(columns)), 1)
        self.rows = 0
        self._columns, self._bytes_max, self._row_bytes = columns, bytes_max, row_bytes(columns)
        self._schema = arrow_schema(columns)
        self._plan = plan_of(columns, self.rows_max)
        fixed = np.empty((self.rows_max + 1) * self._row_bytes // 8 + 1, np.int64)
        nulls = np.zeros((len(columns), self.rows_max), np.uint8)
        self._texts, self._used = np.empty(SLACK_BYTES, np.uint8), 0
        self._memory = Memory(fixed.view(np.int32), fixed, nulls, words_of(self._texts))

    def clear(self) -> None:
        for nulls in self._memory.nulls[:, : self.rows]:
            if nulls.any():  # otherwise its memory may never have been used
                nulls[:] = 0
        self.rows = self._used = 0

    @property
    def is_full(self) -> bool:
        return self.rows == self.rows_max or self.rows * self._row_bytes + self._used >= self._bytes_max

    def feed(self, words: Longs, at: int, stop: int) -> tuple[int, int]:
        """Decode the complete messages in [at, stop). Returns why it ended and the position after them.
        Raises UnsupportedValue, or RidelakeError for a row that is not one of the table."""
        self._make_room(stop - at)
        why, at, self.rows, self._used, column = loop.decode_rows(
            words, at, stop, self._plan, self._memory, self.rows, self.rows_max, self._used
        )
        if why in NOT_HELD:
            raise UnsupportedValue(self._columns[column].name, NOT_HELD[why])
        if why == loop.COLUMNS:
            raise wrong_columns()
        if why == loop.TORN:
            raise torn()
        if why == loop.WIDTH:
            raise wrong_width(self._columns[column])
        return why, at

    def _make_room(self, more: int) -> None:
        needed = self._used + more + SLACK_BYTES
        if needed > len(self._texts):
            texts = np.empty(max(needed, min(2 * len(self._texts), self._bytes_max)), np.uint8)
            texts[: self._used] = self._texts[: self._used]
            self._texts = texts
            self._memory = self._memory._replace(texts=words_of(texts))

    def pieces(self, order_by: Sequence[str] = ()) -> Iterator[pa.Table]:
        """The rows sorted by `order_by`, at most PIECE_ROWS at a time."""
        order: Longs | None = None
        if order_by:
            places = [self._schema.get_field_index(name) for name in order_by]
            keys = [self._array(place, slice(0, self.rows)) for place in places]
            order = sort_order(pa.table(keys, names=list(order_by)))
        for begin in range(0, self.rows, PIECE_ROWS):
            rows = slice(begin, min(begin + PIECE_ROWS, self.rows))
            wanted = rows if order is None else order[rows]
            yield pa.Table.from_arrays(
                [self._array(place, wanted) for place in range(len(self._columns))], schema=self._schema
            )

    def _array(self, place: int, wanted: slice | Longs) -> pa.Array:
        column, kind = self._columns[place], self._plan.kinds[place]
        nulls = self._memory.nulls[place, wanted]
        validity = None
        if nulls.any():
            validity = pa.py_buffer(np.packbits(nulls == 0, bitorder="little"))
        values = self._values(place, wanted)
        if kind == TEXT:
            return from_binary(column, self._binary(values, validity))
        if column.pg_type == "uuid":
            return _uuids(values, nulls, validity)
        if pa.types.is_boolean(column.arrow_type):
            values = np.packbits(values != 0, bitorder="little")
        array = pa.Array.from_buffers(column.arrow_type, len(nulls), [validity, pa.py_buffer(values)])
        if pa.types.is_decimal(column.arrow_type):
            check_digits(column, array)
        elif pa.types.is_time(column.arrow_type):
            check_time_of_day(column, array)
        return array

    def _values(self, place: int, wanted: slice | Longs) -> npt.NDArray[Any]:
        """A copy of the values, because the memory is used again."""
        kind, first = self._plan.kinds[place], self._plan.places[place]
        width = 1 if kind in (INTEGER, LONG, TEXT) else 2
        memory = self._memory.ints if kind == INTEGER else self._memory.longs
        values = memory[first : first + width * self.rows]
        if isinstance(wanted, slice):
            return values[width * wanted.start : width * wanted.stop].copy()
        into = np.empty(width * len(wanted), values.dtype)
        (loop.take_pairs if width == 2 else loop.take)(values, wanted, into)
        return into

    def _binary(self, spans: Longs, validity: pa.Buffer | None) -> pa.Array:
        offsets = _offsets(spans & 0xFFFFFFFF)
        texts = np.empty(int(offsets[-1]) + SLACK_BYTES, np.uint8)
        loop.write_texts(self._memory.texts, spans, offsets, words_of(texts))
        buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(texts)]
        return pa.Array.from_buffers(pa.binary(), len(spans), buffers)


def _uuids(pairs: Longs, nulls: Bytes, validity: pa.Buffer | None) -> pa.Array:
    offsets = _offsets((nulls == 0) * np.int64(UUID_LETTERS))
    texts = np.empty(int(offsets[-1]) + SLACK_BYTES, np.uint8)
    loop.write_uuids(pairs, offsets, words_of(texts))
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(texts)]
    return pa.Array.from_buffers(pa.string(), len(nulls), buffers)


def _offsets(sizes: Longs) -> Ints:
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    return offsets
