"""The pages of a Parquet column chunk: where each begins, how long it is, how many values it holds.

A chunk is pages one after the other, each behind a header: a Thrift struct in the compact protocol. Sources:
`PageHeader` in parquet.thrift of the Parquet format, and "Thrift Compact protocol" of Apache Thrift. pyarrow
reads these headers too and does not tell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

# Of PageType, Encoding.
KINDS = {0: "data", 2: "dictionary", 3: "data"}
ENCODINGS = (
    "PLAIN", "", "PLAIN_DICTIONARY", "RLE", "BIT_PACKED", "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY",
    "DELTA_BYTE_ARRAY", "RLE_DICTIONARY", "BYTE_STREAM_SPLIT",
)  # fmt: skip

# Field numbers of PageHeader: the header of a data page, of a dictionary page, of a data page of version 2;
# and in each the number of its encoding.
INNER = {5: 2, 7: 2, 8: 4}

TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


@dataclass(frozen=True, slots=True)
class Page:
    """`offset` in the file and `bytes` count the header in."""

    kind: Literal["data", "dictionary"]
    offset: int
    header_bytes: int
    bytes: int
    values: int
    encoding: str


def pages_of(chunk: bytes, offset: int) -> Iterator[Page]:
    """The pages of a chunk that lies at `offset` in its file, in their order."""
    place = 0
    while place < len(chunk):
        header, body = _struct(chunk, place)
        inner, encoding = next((header[number], of) for number, of in INNER.items() if number in header)
        size = body - place + header[3]
        kind: Any = KINDS[header[1]]
        yield Page(kind, offset + place, body - place, size, inner[1], ENCODINGS[inner[encoding]])
        place += size


def _struct(data: bytes, place: int) -> tuple[dict[int, Any], int]:
    """The fields by number, and where the struct ends."""
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
