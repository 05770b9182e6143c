"""The pages of a Parquet column chunk: offset, length and number of values of each.

A chunk is a sequence of pages. Each page follows its header, a Thrift struct in the compact protocol. See
`PageHeader` in parquet.thrift of the Parquet format, and "Thrift Compact protocol" of Apache Thrift. pyarrow
does not expose these headers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

# Values of PageType and Encoding in parquet.thrift.
KINDS = {0: "data", 2: "dictionary", 3: "data"}
ENCODINGS = (
    "PLAIN", "", "PLAIN_DICTIONARY", "RLE", "BIT_PACKED", "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY",
    "DELTA_BYTE_ARRAY", "RLE_DICTIONARY", "BYTE_STREAM_SPLIT",
)  # fmt: skip

# Field number in PageHeader of the header of a data page, a dictionary page and a data page of version 2 →
# field number of the encoding in that header.
INNER = {5: 2, 7: 2, 8: 4}

TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `offset`: of its header in the file. `bytes`: including the header."""

    kind: Literal["data", "dictionary"]
    offset: int
    header_bytes: int
    bytes: int
    values: int
    encoding: str


def pages_of(chunk: bytes, offset: int) -> Iterator[Page]:
    """The pages of a chunk, in order. `offset`: of the chunk in its file."""
    place = 0
    while place < len(chunk):
        header, body = _struct(chunk, place)
        inner, encoding = next((header[number], of) for number, of in INNER.items() if number in header)
        size = body - place + header[3]
        kind: Any = KINDS[header[1]]
        yield Page(kind, offset + place, body - place, size, inner[1], ENCODINGS[inner[encoding]])
        place += size


def _struct(data: bytes, place: int) -> tuple[dict[int, Any], int]:
    """The fields by number, and the position after the struct."""
    fields: dict[int, Any] = {}
    number = 0
    while data[place]:
        step, kind = data[place] >> 4, data[place] & 0x0F
        place += 1
        if step:
            number += step
        else:
            number, place = _zigzag(data, place)
        if kind in (TRUE, FALSE):
            fields[number] = kind == TRUE
        else:
            fields[number], place = _value(data, place, kind)
    return fields, place + 1


def _value(data: bytes, place: int, kind: int) -> tuple[Any, int]:
    if kind == STRUCT:
        return _struct(data, place)
    if kind == BINARY:
        length, place = _varint(data, place)
        return data[place : place + length], place + length
    if kind == BYTE:
        return data[place], place + 1
    if kind == DOUBLE:
        return data[place : place + 8], place + 8
    if kind in (LIST, SET, MAP):
        raise ValueError("a page header has no collections")
    return _zigzag(data, place)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not byte & 0x80:
            return value, place


def _zigzag(data: bytes, place: int) -> tuple[int, int]:
    value, place = _varint(data, place)
    return (value >> 1) ^ -(value & 1), place
