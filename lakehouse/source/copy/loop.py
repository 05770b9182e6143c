"""The loops over the bytes of COPY BINARY and over the rows of a run. numba compiles them. Importing this
module takes 0.3 s, so it is imported only to read a large table.

    'd' │ int32 length, itself included │ int16 columns │ int32 length, bytes │ int32 length, bytes │ …

A length of -1 is a null. Each length is checked against the end of its row, and the end of the row against
the end of the received bytes. The loops release the GIL.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from lakehouse.source.copy.memory import INTEGER, LONG, NUMERIC, PAIR, TEXT, Ints, Longs, Memory, Plan

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

COPY_DATA = ord("d")
HEADER_BYTES = 5  # the type, and a length that counts itself but not the type

# Why the loop ended.
NEEDS_BYTES, OTHER_MESSAGE, FULL, TRAILER, COLUMNS, TORN, WIDTH, INFINITY, OUTSIDE, NAN, DIGITS = range(11)
OK = NEEDS_BYTES

DASH = ord("-")
LONG_MAX = 2**63 - 1
HIGH_END = 2**63  # of the upper half of a numeric, which has a sign
NEGATIVE, SPECIAL, SPECIAL_NAN = 0x4000, 0xC000, 0xC000  # signs of a numeric


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The machine code is kept next to this file or in the user's cache folder (NUMBA_CACHE_DIR)."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither can be written
        return njit(nogil=True)(function)


@compiled
def swapped(number: Any) -> Any:
    """The big-endian number that was read as little-endian."""
    word = np.uint64(number)
    word = ((word >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)) | (
        (word & np.uint64(0x00FF00FF00FF00FF)) << np.uint64(8)
    )
    word = ((word >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)) | (
        (word & np.uint64(0x0000FFFF0000FFFF)) << np.uint64(16)
    )
    return np.int64((word >> np.uint64(32)) | (word << np.uint64(32)))


@compiled
def shifted(value: int, width: int, shift: int) -> tuple[int, int]:
    """A time since 1970; any other number as it is (`shift` 0). The least number of a time is -infinity, the
    greatest is infinity, and those before it are outside of Arrow's range."""
    most = LONG_MAX >> (64 - 8 * width)
    if shift != 0 and (value < -most or value > most - shift):
        return (INFINITY if value < -most or value == most else OUTSIDE), value
    return OK, value + shift


@compiled
def decode_rows(
    words: Longs, at: int, stop: int, plan: Plan, memory: Memory, row: int, rows_max: int, used: int
) -> tuple[int, int, int, int, int]:
    """Decode the complete messages in [at, stop) into the memory from `row` on. `used`: bytes of texts.

    Returns why it ended, the position of the first message that was not decoded, the next row, the used bytes
    of texts, and the column of an error. The texts must have room for stop - at bytes."""
    kinds, widths, shifts, scales, places = plan
    ints, longs, nulls, texts = memory
    columns = len(kinds)
    while at + HEADER_BYTES <= stop:
        head = at
        if words[head] & 0xFF != COPY_DATA:
            return OTHER_MESSAGE, head, row, used, 0
        end = head + 1 + (swapped(words[head + 1]) >> 32)
        if end > stop:
            break
        at = head + HEADER_BYTES + 2
        found = swapped(words[at - 2]) >> 48 if at <= end else 0
        if found != columns or at > end:
            return TRAILER if found == -1 and at == end else COLUMNS, head, row, used, 0
        if row == rows_max:
            return FULL, head, row, used, 0
        for column in range(columns):
            if at + 4 > end:
                return TORN, head, row, used, column
            size, kind, width = swapped(words[at]) >> 32, kinds[column], widths[column]
            at += 4
            if size < -1 or size > end - at:
                return TORN, head, row, used, column
            place, value = places[column] + row, 0
            if size < 0:
                nulls[column, row] = 1
                size = 0
            elif width != size and width >= 0:
                return WIDTH, head, row, used, column
            elif kind <= LONG:
                why, value = shifted(swapped(words[at]) >> (64 - 8 * width), width, shifts[column])
                if why != OK:
                    return why, head, row, used, column
            elif kind == PAIR:
                longs[place + row], longs[place + row + 1] = words[at], words[at + 8]
            elif kind == NUMERIC:
                why = decode_numeric(words, at, size, scales[column], place + row, longs)
                if why != OK:
                    return why, head, row, used, column
            else:
                value = (used << 32) | size
                for step in range(0, size, 8):
                    texts[used + step] = words[at + step]
                used += size
            if kind == INTEGER:
                ints[place] = value
            elif kind in (LONG, TEXT):
                longs[place] = value
            at += size
        if at != end:
            return TORN, head, row, used, columns - 1
        row += 1
    return NEEDS_BYTES, at, row, used, 0


@compiled
def decode_numeric(words: Longs, at: int, size: int, scale: int, place: int, into: Longs) -> int:
    """int16 digits of base 10,000 │ int16 the power of the first │ int16 sign │ int16 scale │ the digits"""
    if size < 8:
        return TORN
    head = swapped(words[at])
    count, weight, sign = head >> 48, (head << 16) >> 48, (head >> 16) & 0xFFFF
    if sign & SPECIAL == SPECIAL:
        return NAN if sign == SPECIAL_NAN else INFINITY
    if count < 0 or size != 8 + 2 * count:
        return TORN
    low, high = np.uint64(0), np.uint64(0)
    last = -((scale + 3) // 4)  # the power of the last digit that the scale includes
    if count > 0 and (weight > 9 or weight - count + 1 < last):
        return DIGITS
    power = weight if count > 0 else last - 1
    while power >= last:
        digit = np.int64(0)
        if weight - power < count:
            digit = swapped(words[at + 8 + 2 * (weight - power)]) >> 48
        base = 10_000
        if power == last and scale % 4 > 0:
            cut = 10 ** (4 - scale % 4)
            base = 10 ** (scale % 4)
            if digit % cut > 0:
                return DIGITS
            digit //= cut
        if digit < 0 or digit >= base or high >= np.uint64(HIGH_END // base):
            return DIGITS
        # 128 bits times 14 bits, in halves of 32 bits
        first = (low & np.uint64(0xFFFFFFFF)) * np.uint64(base) + np.uint64(digit)
        second = (low >> np.uint64(32)) * np.uint64(base) + (first >> np.uint64(32))
        low = (second << np.uint64(32)) | (first & np.uint64(0xFFFFFFFF))
        high = high * np.uint64(base) + (second >> np.uint64(32))
        power -= 1
    if sign == NEGATIVE:
        low = ~low + np.uint64(1)
        high = ~high + np.uint64(low == np.uint64(0))
    into[place] = np.int64(low)
    into[place + 1] = np.int64(high)
    return OK


@compiled
def write_texts(words: Longs, spans: Longs, offsets: Ints, into: Longs) -> None:
    """Copy each text to its offset. `spans`: as in the memory."""
    for row in range(len(spans)):
        begin, at = spans[row] >> 32, offsets[row]
        for step in range(0, spans[row] & 0xFFFFFFFF, 8):
            into[at + step] = words[begin + step]


@compiled
def hexadecimal(octets: int) -> Any:
    """The eight digits of the four lower bytes, as bytes. All digits are computed at once."""
    word = np.uint64(octets) & np.uint64(0xFFFFFFFF)
    word = (word | (word << np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    word = (word | (word << np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    word = ((word >> np.uint64(4)) | (word << np.uint64(8))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    letters = ((word + np.uint64(0x0606060606060606)) >> np.uint64(4)) & np.uint64(0x0101010101010101)
    return np.int64(word + np.uint64(0x3030303030303030) + letters * np.uint64(ord("a") - ord("9") - 1))


@compiled
def write_uuids(pairs: Longs, offsets: Ints, into: Longs) -> None:
    """Write 36 characters for each 16 bytes whose offsets are not equal. Each of the overlapping eight bytes
    corrects the end of those before."""
    for row in range(len(offsets) - 1):
        at = offsets[row]
        if offsets[row + 1] > at:
            second, third = hexadecimal(pairs[2 * row] >> 32), hexadecimal(pairs[2 * row + 1])
            into[at] = hexadecimal(pairs[2 * row])
            into[at + 8] = DASH | (second << 8)
            into[at + 13] = DASH | ((second >> 32) << 8)
            into[at + 18] = DASH | (third << 8)
            into[at + 23] = DASH | ((third >> 32) << 8)
            into[at + 28] = hexadecimal(pairs[2 * row + 1] >> 32)


@compiled
def take(values: npt.NDArray[Any], order: Longs, into: npt.NDArray[Any]) -> None:
    for row in range(len(order)):
        into[row] = values[order[row]]


@compiled
def take_pairs(values: npt.NDArray[Any], order: Longs, into: npt.NDArray[Any]) -> None:
    for row in range(len(order)):
        into[2 * row] = values[2 * order[row]]
        into[2 * row + 1] = values[2 * order[row] + 1]
