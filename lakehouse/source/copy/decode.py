"""Decode COPY BINARY into Arrow, many rows at a time, without a Python object per value.

    row:  int16 columns │ int32 length, bytes │ int32 length, bytes │ …      (-1: null)

Adjacent columns of fixed width have the same offsets from each other in all rows. Such a stretch is read from
all rows in one step, and its columns are strided views of it. After a text or a null, the positions differ
between rows, and numpy gathers the next stretch from them. Columns with nulls are detected during decoding.
Missing or surplus bytes are an error.

The format is binary instead of CSV, so nulls, empty strings, quotes and newlines need no rules, and no text
has to be parsed.
"""

from collections.abc import Iterator, Sequence
from itertools import takewhile

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.source.copy.framing import Bytes, Numbers
from lakehouse.source.copy.values import FIXED, Mask, field, spans
from lakehouse.table.columns import SourceColumn, UnsupportedValue
from ridelake.errors import RidelakeError

# The number of bytes that must be readable after the last row: enough for a row of 1,600 uuids, all null.
READABLE_TAIL_BYTES = 1 << 15

# Values of numeric(p, s) that a decimal does not have.
NOT_NUMBERS = (b"NaN", b"Infinity", b"-Infinity")


class Decoder:
    """Decodes the rows of one table. It stores which columns had nulls, so it is not thread-safe."""

    def __init__(self, columns: Sequence[SourceColumn]) -> None:
        self.schema = pa.schema([pa.field(c.name, c.arrow_type, c.nullable) for c in columns])
        self._columns = columns
        self._varying = {c.name for c in columns if c.pg_type not in FIXED}

    def decode(self, buffer: Bytes, begins: Numbers, ends: Numbers) -> pa.RecordBatch:
        """The rows of `buffer` between `begins` and `ends`, with READABLE_TAIL_BYTES readable bytes after the
        last."""
        at = begins.copy()
        arrays: list[pa.Array] = []
        while len(arrays) < len(self._columns):
            if (at > ends).any():
                raise _malformed_row_error()
            arrays.extend(self._next(buffer, at, len(arrays)))
        if not np.array_equal(at, ends):
            raise _malformed_row_error()
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _next(self, buffer: Bytes, at: Numbers, first: int) -> Iterator[pa.Array]:
        """Decode the next stretch and the column after it, which has nulls or varies in width. Advances
        `at`."""
        rest = self._columns[first:]
        same = list(takewhile(lambda c: c.name not in self._varying, rest))
        place = 0 if first else 2
        width = place + sum(4 + FIXED[c.pg_type][0] for c in same) + (4 if len(same) < len(rest) else 0)
        stretch = _stretches(buffer, at, width)
        if not first and not (field(stretch, 0, ">i2") == len(rest)).all():
            raise RidelakeError("COPY sent rows with another number of columns: run the command again")
        following = rest[len(same)] if len(same) < len(rest) else None
        for column in same:
            width, decoder = FIXED[column.pg_type]
            if not (field(stretch, place, ">i4") == width).all():
                self._varying.add(column.name)  # it has a null, or is invalid
                following = column
                break
            yield decoder(column, stretch, place + 4, None)
            place += 4 + width
        if following is not None:
            sizes = field(stretch, place, ">i4").astype(np.int64)
            at += place + 4
            yield _varying(following, buffer, at, sizes)
            at += np.maximum(sizes, 0)
        else:
            at += place


def _varying(column: SourceColumn, buffer: Bytes, at: Numbers, sizes: Numbers) -> pa.Array:
    nulls: Mask = sizes < 0
    if column.pg_type not in FIXED:
        return _cast(column, spans(buffer, at, sizes, nulls))
    width, decoder = FIXED[column.pg_type]
    if not ((sizes == width) | nulls).all():
        raise RidelakeError(f"COPY sent column {column.name} with another width than {column.pg_type} has")
    return decoder(column, _stretches(buffer, at, width), 0, nulls)


def _cast(column: SourceColumn, values: pa.Array) -> pa.Array:
    try:
        return values.cast(column.arrow_type)
    except pa.ArrowInvalid:
        if pc.any(pc.is_in(values, pa.array(NOT_NUMBERS, pa.binary()))).as_py():
            raise UnsupportedValue(column.name, "NaN") from None
        raise


def _malformed_row_error() -> RidelakeError:
    return RidelakeError(
        "COPY sent rows that are longer or shorter than their columns: run the command again"
    )


def _stretches(buffer: Bytes, at: Numbers, width: int) -> npt.NDArray[np.void]:
    """`width` bytes from each position. Not copied if the positions are equidistant."""
    dtype = np.dtype((np.void, width))
    count = len(at)
    if count > 1:
        step = int(at[1] - at[0])
        if step >= width and int(at[-1] - at[0]) == step * (count - 1) and (np.diff(at) == step).all():
            return np.ndarray((count,), dtype, buffer, int(at[0]), (step,))
    everywhere = np.ndarray((len(buffer) - width + 1,), dtype, buffer, 0, (1,))
    taken: npt.NDArray[np.void] = everywhere[at]
    return taken
