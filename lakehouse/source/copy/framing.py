"""Find the rows in the bytes of the server without a loop over the messages.

    'd' │ int32 length, itself included │ one row of COPY │ 'd' │ length │ one row │ …

Rows are not copied; only their positions are computed. A row can contain any bytes, including bytes that look
like a header. Each candidate determines the position of the next header, and only candidates on the chain
that starts at the first header are accepted.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

COPY_DATA = ord("d")
HEADER_BYTES = 5  # the type, and a length that counts itself but not the type
WIDTH_BYTES = 2  # a row begins with the number of its columns


@dataclass(frozen=True, slots=True)
class CopyRows:
    """Complete CopyData messages: the begin and end of each row. `end`: the position after them, of a message
    of another type or an incomplete one."""

    begins: Numbers
    ends: Numbers
    end: int


def find_rows(buffer: Bytes, begin: int, end: int) -> CopyRows:
    """The CopyData messages in `buffer[begin:end]`, which starts with a header or a part of one."""
    heads = _equal_heads(buffer, begin, end)
    if heads is None:
        heads = _linked_heads(buffer, begin, end)
    if not len(heads):
        return CopyRows(heads, heads, begin)
    lengths = _length_at(buffer, heads)
    ends = heads + 1 + lengths
    if ends[-1] > end:  # the last message is incomplete
        heads, ends = heads[:-1], ends[:-1]
    stop = int(ends[-1]) if len(ends) else begin
    return CopyRows(heads + HEADER_BYTES, ends, stop)


def _number_at(buffer: Bytes, at: Numbers, dtype: str) -> npt.NDArray[Any]:
    """The number at each position, by one gather from a view with a stride of one byte."""
    numbers: npt.NDArray[Any] = np.ndarray(
        (len(buffer) - np.dtype(dtype).itemsize + 1,), dtype, buffer, 0, (1,)
    )
    return numbers[at]


def _length_at(buffer: Bytes, heads: Numbers) -> Numbers:
    return _number_at(buffer, heads + 1, ">u4").astype(np.int64)


def _equal_heads(buffer: Bytes, begin: int, end: int) -> Numbers | None:
    """All headers, if all messages have the same length; otherwise None."""
    if end - begin < HEADER_BYTES or buffer[begin] != COPY_DATA:
        return np.zeros(0, np.int64)
    step = 1 + int.from_bytes(buffer[begin + 1 : begin + HEADER_BYTES].tobytes(), "big")
    count = (end - begin) // step
    if step <= HEADER_BYTES or not count:
        return None
    first = buffer[begin : begin + HEADER_BYTES]
    if not (buffer[begin : begin + count * step].reshape(count, step)[:, :HEADER_BYTES] == first).all():
        return None
    rest = begin + count * step
    if rest + HEADER_BYTES <= end and buffer[rest] == COPY_DATA:
        if not np.array_equal(buffer[rest : rest + HEADER_BYTES], first):
            return None
        count += 1
    return begin + step * np.arange(count, dtype=np.int64)


def _linked_heads(buffer: Bytes, begin: int, end: int) -> Numbers:
    """The headers on the chain from the one at `begin`. All rows begin with the number of their columns,
    which excludes most bytes that only look like a header."""
    last = end - HEADER_BYTES + 1  # no complete header begins here or later
    likely = buffer[begin : last - WIDTH_BYTES] == COPY_DATA
    likely &= buffer[begin + 1 : last - WIDTH_BYTES + 1] == 0
    heads = np.flatnonzero(likely) + begin
    if not len(heads) or heads[0] != begin:
        return _walk(buffer, begin, last)
    widths = _number_at(buffer, heads + HEADER_BYTES, ">u2")
    heads = heads[widths == widths[0]]
    following = heads + 1 + _length_at(buffer, heads)
    if np.array_equal(following[:-1], heads[1:]):
        return np.concatenate([heads, _walk(buffer, int(following[-1]), last)])
    return _chain(buffer, heads, following, last)


def _chain(buffer: Bytes, heads: Numbers, following: Numbers, last: int) -> Numbers:
    """The chain, if some candidates are bytes of a row. Other ranges are taken in one step."""
    bends = np.flatnonzero(following[:-1] != heads[1:])
    kept: list[Numbers] = []
    at = 0
    while True:
        place = int(np.searchsorted(bends, at))
        bend = int(bends[place]) if place < len(bends) else len(heads) - 1
        kept.append(heads[at : bend + 1])
        target = int(following[bend])
        at = int(np.searchsorted(heads, target))
        if at >= len(heads) or heads[at] != target:
            return np.concatenate([*kept, _walk(buffer, target, last)])


def _walk(buffer: Bytes, at: int, last: int) -> Numbers:
    """Read the headers one by one: the search above does not find messages of 16 MB or more."""
    heads = []
    while at < last and buffer[at] == COPY_DATA:
        heads.append(at)
        at += 1 + max(int.from_bytes(buffer[at + 1 : at + HEADER_BYTES].tobytes(), "big"), 4)
    return np.array(heads, np.int64)
