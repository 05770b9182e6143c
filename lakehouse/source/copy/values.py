"""Decode the values of one column into an Arrow array, exactly.

A decoder gets the stretches of bytes that contain its values, one per row, and the offset in the stretch.
`nulls` is None if there are no nulls. The bytes of a null can have any content.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.source.copy.framing import Bytes, Numbers
from lakehouse.table.columns import SourceColumn, UnsupportedValue

Mask = npt.NDArray[np.bool_]
Stretches = npt.NDArray[np.void]
Decode = Callable[[SourceColumn, Stretches, int, Mask | None], pa.Array]

# Postgres counts from 2000-01-01, Arrow from 1970-01-01.
EPOCH_SHIFT_DAYS = 10_957
EPOCH_SHIFT_US = EPOCH_SHIFT_DAYS * 86_400_000_000

UUID_LETTERS = 36
# The positions of the groups of hexadecimal digits of a uuid: 8-4-4-4-12.
DIGITS = np.dtype(
    {
        "names": list("abcdef"),
        "formats": ["u8", "u4", "u4", "u4", "u8", "u4"],
        "offsets": [0, 8, 12, 16, 20, 28],
        "itemsize": 32,
    }
)
LETTERS = np.dtype(
    {
        "names": list("abcdef"),
        "formats": ["u8", "u4", "u4", "u4", "u8", "u4"],
        "offsets": [0, 9, 14, 19, 24, 32],
        "itemsize": UUID_LETTERS,
    }
)


def spans(buffer: Bytes, begins: Numbers, sizes: Numbers, nulls: Mask) -> pa.Array:
    """An array of the bytes from each of `begins`. The buffer is interpreted as an Arrow array of value, gap,
    value, gap …; `take` then copies only the values."""
    offsets = np.empty(2 * len(begins), np.int32)
    offsets[0::2] = begins
    offsets[1::2] = begins + np.maximum(sizes, 0)
    whole = pa.Array.from_buffers(
        pa.binary(), max(len(offsets) - 1, 0), [None, pa.py_buffer(offsets), pa.py_buffer(buffer)]
    )
    places = np.arange(0, len(offsets), 2, dtype=np.int32)
    return whole.take(pa.array(places, mask=nulls if nulls.any() else None))


def field(stretches: Stretches, place: int, dtype: str) -> npt.NDArray[Any]:
    """A view of the values at the same offset in every stretch."""
    return stretches.view(_within(stretches.itemsize, place, dtype))["field"]


@lru_cache(1024)
def _within(width: int, place: int, dtype: str) -> np.dtype[np.void]:
    return np.dtype({"names": ["field"], "formats": [dtype], "offsets": [place], "itemsize": width})


def _number(dtype: str) -> Decode:
    native = np.dtype(dtype).newbyteorder("=")

    def decode(column: SourceColumn, stretches: Stretches, place: int, nulls: Mask | None) -> pa.Array:
        numbers = field(stretches, place, dtype).astype(native)
        return pa.array(numbers, mask=nulls).cast(column.arrow_type)

    return decode


def _boolean(column: SourceColumn, stretches: Stretches, place: int, nulls: Mask | None) -> pa.Array:
    return pa.array(field(stretches, place, "u1") != 0, column.arrow_type, mask=nulls)


def _moment(column: SourceColumn, stretches: Stretches, place: int, nulls: Mask | None) -> pa.Array:
    """timestamp and timestamptz: microseconds. Arrow has no `infinity`."""
    since_2000 = field(stretches, place, ">i8").astype(np.int64)
    since_1970 = _shifted(column, since_2000, EPOCH_SHIFT_US, nulls)
    return pa.array(since_1970, pa.int64(), mask=nulls).view(column.arrow_type)


def _day(column: SourceColumn, stretches: Stretches, place: int, nulls: Mask | None) -> pa.Array:
    since_2000 = field(stretches, place, ">i4").astype(np.int32)
    since_1970 = _shifted(column, since_2000, EPOCH_SHIFT_DAYS, nulls)
    return pa.array(since_1970, pa.int32(), mask=nulls).view(column.arrow_type)


def _shifted(
    column: SourceColumn, numbers: npt.NDArray[np.signedinteger], shift: int, nulls: Mask | None
) -> npt.NDArray[np.signedinteger]:
    """Convert to an offset from 1970. The smallest number is -infinity; the greatest are beyond Arrow's
    range."""
    if nulls is not None:
        numbers[nulls] = 0
    limits = np.iinfo(numbers.dtype)
    if len(numbers) and (numbers.min() == limits.min or numbers.max() > limits.max - shift):
        infinite = numbers.min() == limits.min or numbers.max() == limits.max
        raise UnsupportedValue(column.name, "infinity" if infinite else "a time outside of Arrow's range")
    numbers += numbers.dtype.type(shift)
    return numbers


def _uuid(column: SourceColumn, stretches: Stretches, place: int, nulls: Mask | None) -> pa.Array:
    octets = field(stretches, place, "V16")
    present = np.full(len(octets), UUID_LETTERS, np.int32)
    validity = None
    if nulls is not None:
        octets, present[nulls], validity = octets[~nulls], 0, pa.array(~nulls).buffers()[1]
    offsets = np.zeros(len(stretches) + 1, np.int32)
    np.cumsum(present, out=offsets[1:])
    texts = _letters(np.ascontiguousarray(octets).view(np.uint8))
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(texts)]
    return pa.Array.from_buffers(pa.string(), len(stretches), buffers)


def _letters(octets: Bytes) -> Bytes:
    """Convert each 16 bytes to 36 characters. A byte becomes two nibbles in a 16-bit number, then two
    digits."""
    halves = octets.astype("<u2")
    low = halves << 8
    halves >>= 4
    halves |= low
    halves &= 0x0F0F
    digits = halves.view(np.uint8)
    beyond_nine = (digits > 9).view(np.uint8)
    beyond_nine *= ord("a") - ord("9") - 1
    digits += ord("0")
    digits += beyond_nine
    texts = np.empty(len(octets) // 16 * UUID_LETTERS, np.uint8)
    groups, letters = digits.view(DIGITS), texts.view(LETTERS)
    for name in "abcdef":
        letters[name] = groups[name]
    texts.reshape(-1, UUID_LETTERS)[:, [8, 13, 18, 23]] = ord("-")
    return texts


FIXED: dict[str, tuple[int, Decode]] = {
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
