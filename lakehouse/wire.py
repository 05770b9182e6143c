"""COPY BINARY into Arrow, a batch of rows at a time, without a Python object a value.

    message = one row:  int16 columns │ int32 length, bytes │ int32 length, bytes │ …      (-1: null)

psycopg hands over a row a message, so the beginnings of the rows are known. The columns are then taken
one after the other for all rows at once: numpy gathers each row's length and value at that row's own
position, and moves the position on. What is left over, or too little, is an error and not a guess.

Binary and not CSV, because then a null, an empty string, a quote, a newline and a microsecond need no
rules, and there is no text to parse.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy.lib.stride_tricks import as_strided

from lakehouse.columns import Column
from ridelake.errors import BadInput, RidelakeError

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER_BYTES = len(SIGNATURE) + 4 + 4  # flags, length of the (empty) extension
TRAILER = b"\xff\xff"

# Postgres counts from 2000-01-01, Arrow from 1970-01-01.
EPOCH_SHIFT_DAYS = 10_957
EPOCH_SHIFT_US = EPOCH_SHIFT_DAYS * 86_400_000_000

HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint8).reshape(256, 2)

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


def decode(rows: Sequence[bytes], columns: Sequence[Column]) -> pa.RecordBatch:
    """Rows as COPY BINARY sends them, without header and trailer."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    ends = np.cumsum(lengths)
    at = ends - lengths
    buffer = np.frombuffer(b"".join(rows) + bytes(16), np.uint8)  # the tail: a null at the end reads on
    if not (_gather(buffer, at, ">i2") == len(columns)).all():
        raise RidelakeError("COPY sent rows of another width than the table has: run it again")
    at = at + 2
    arrays = []
    for column in columns:
        sizes = _gather(buffer, at, ">i4").astype(np.int64)
        at = at + 4
        arrays.append(_decode_column(column, buffer, at, sizes))
        at = at + np.maximum(sizes, 0)
    if not np.array_equal(at, ends):
        raise RidelakeError("COPY sent rows that do not end where their columns end: run it again")
    fields = [pa.field(column.name, column.arrow_type, column.nullable) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _decode_column(column: Column, buffer: Bytes, at: Numbers, sizes: Numbers) -> pa.Array:
    nulls = sizes < 0
    if column.pg_type in FIXED:
        width, decoder = FIXED[column.pg_type]
        if not ((sizes == width) | nulls).all():
            raise RidelakeError(f"COPY sent column {column.name} in another width than {column.pg_type} has")
        return decoder(column, buffer, at, nulls)
    return _spans(buffer, at, at + np.maximum(sizes, 0), nulls).cast(column.arrow_type)


def _gather(buffer: Bytes, at: Numbers, dtype: str) -> npt.NDArray[np.generic]:
    """The number at each position."""
    width = np.dtype(dtype).itemsize
    windows = as_strided(buffer, (len(buffer) - width + 1, width), (1, 1), writeable=False)
    return np.ascontiguousarray(windows[at]).view(dtype)[:, 0]


def _number(dtype: str) -> Callable[[Column, Bytes, Numbers, npt.NDArray[np.bool_]], pa.Array]:
    def decoder(column: Column, buffer: Bytes, at: Numbers, nulls: npt.NDArray[np.bool_]) -> pa.Array:
        native = np.dtype(dtype).newbyteorder("=")
        return pa.array(_gather(buffer, at, dtype).astype(native), column.arrow_type, mask=nulls)

    return decoder


def _boolean(column: Column, buffer: Bytes, at: Numbers, nulls: npt.NDArray[np.bool_]) -> pa.Array:
    return pa.array(buffer[at] != 0, column.arrow_type, mask=nulls)


def _moment(column: Column, buffer: Bytes, at: Numbers, nulls: npt.NDArray[np.bool_]) -> pa.Array:
    """timestamp and timestamptz: microseconds. `infinity` has no form in Arrow."""
    since_2000 = _gather(buffer, at, ">i8").astype(np.int64)
    limits = np.iinfo(np.int64)
    outside = (since_2000 == limits.min) | (since_2000 > limits.max - EPOCH_SHIFT_US)
    _refuse_outside(column, outside & ~nulls)
    since_1970 = np.where(nulls | outside, 0, since_2000) + EPOCH_SHIFT_US
    return pa.array(since_1970, pa.int64(), mask=nulls).view(column.arrow_type)


def _day(column: Column, buffer: Bytes, at: Numbers, nulls: npt.NDArray[np.bool_]) -> pa.Array:
    since_2000 = _gather(buffer, at, ">i4").astype(np.int64)
    limits = np.iinfo(np.int32)
    outside = (since_2000 == limits.min) | (since_2000 > limits.max - EPOCH_SHIFT_DAYS)
    _refuse_outside(column, outside & ~nulls)
    since_1970 = np.where(nulls | outside, 0, since_2000) + EPOCH_SHIFT_DAYS
    return pa.array(since_1970.astype(np.int32), pa.int32(), mask=nulls).view(column.arrow_type)


def _refuse_outside(column: Column, outside: npt.NDArray[np.bool_]) -> None:
    if outside.any():
        raise BadInput(
            f"column {column.name} holds 'infinity' or a time too far away for the lake: "
            "set it to null or to a real time, then run it again"
        )


def _uuid(column: Column, buffer: Bytes, at: Numbers, nulls: npt.NDArray[np.bool_]) -> pa.Array:
    """16 bytes to 8-4-4-4-12 hexadecimal digits."""
    digits = HEX[as_strided(buffer, (len(buffer) - 15, 16), (1, 1), writeable=False)[at]].reshape(-1, 32)
    text = np.full((len(at), 36), ord("-"), np.uint8)
    for begin, end, shift in ((0, 8, 0), (8, 12, 1), (12, 16, 2), (16, 20, 3), (20, 32, 4)):
        text[:, begin + shift : end + shift] = digits[:, begin:end]
    begins = np.arange(len(at), dtype=np.int64) * 36
    return _spans(text.reshape(-1), begins, begins + 36, nulls).cast(column.arrow_type)


def _spans(buffer: Bytes, begins: Numbers, ends: Numbers, nulls: npt.NDArray[np.bool_]) -> pa.Array:
    """The bytes between `begins` and `ends`. Every other element of an Arrow array over the whole buffer:
    value, gap, value, gap …; `take` then copies the values alone."""
    offsets = np.stack([begins, ends], axis=1).reshape(-1).astype(np.int32)
    whole = pa.Array.from_buffers(
        pa.binary(), max(len(offsets) - 1, 0), [None, pa.py_buffer(offsets), pa.py_buffer(buffer)]
    )
    return whole.take(pa.array(np.arange(len(begins)) * 2, mask=nulls))


FIXED: dict[str, tuple[int, Callable[[Column, Bytes, Numbers, npt.NDArray[np.bool_]], pa.Array]]] = {
    "bool": (1, _boolean),
    "int2": (2, _number(">i2")),
    "int4": (4, _number(">i4")),
    "int8": (8, _number(">i8")),
    "float4": (4, _number(">f4")),
    "float8": (8, _number(">f8")),
    "date": (4, _day),
    "timestamp": (8, _moment),
    "timestamptz": (8, _moment),
    "uuid": (16, _uuid),
}
