"""One page of a Postgres heap, byte by byte.

    0        24               lower              upper                              special = 8,192
    ├ header ┼ line pointers ──> │  free space    │ <── tuples, the first one last ──┤

The layout is documented in the Postgres manual, chapter "Database Physical Storage", section "Database Page
Layout" (PageHeaderData, ItemIdData, HeapTupleHeaderData). The alignment and length of values are in
pg_attribute and pg_type.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ridelake.errors import RidelakeError

# pd_lsn, pd_checksum, pd_flags, pd_lower, pd_upper, pd_special, pd_pagesize_version, pd_prune_xid
HEADER = struct.Struct("<QHHHHHHI")
LAYOUT_VERSION = 4  # since Postgres 8.3

POINTER_BYTES = 4
POINTER_STATES = ("unused", "normal", "redirect", "dead")

# t_xmin, t_xmax, t_cid, t_ctid (block high, block low, number), t_infomask2, t_infomask, t_hoff
TUPLE_HEADER = struct.Struct("<IIIHHHHHB")
HAS_NULLS = 0x0001  # of t_infomask
COLUMNS = 0x07FF  # of t_infomask2

TOAST_POINTER_BYTES = 18
ALIGNMENTS = {"c": 1, "s": 2, "i": 4, "d": 8}

PointerState = Literal["unused", "normal", "redirect", "dead"]


@dataclass(frozen=True, slots=True)
class Span:
    """A range of bytes. `offset`: from the start of the page."""

    offset: int
    bytes: int

    @property
    def end(self) -> int:
        return self.offset + self.bytes


@dataclass(frozen=True, slots=True)
class Attribute:
    """A row of pg_attribute. `length`: in bytes; -1: variable. Values of dropped columns still exist."""

    name: str
    type: str
    length: int
    alignment: str
    labels: dict[int, str]  # of an enum, by oid
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Tuple:
    """A version of a row. `columns`: the position of each value; None: a null, which has only a bit."""

    number: int  # of its line pointer, from 1: the second half of a ctid
    span: Span
    header_bytes: int
    columns: dict[str, Span | None]


@dataclass(frozen=True, slots=True)
class HeapPage:
    """See the module. `content`: None if the role may not read the page. The sizes are then measured, and the
    positions are computed from them, with tuples placed from the end of the page as in Postgres."""

    block: int
    page_bytes: int
    lower: int
    upper: int
    pointers: tuple[PointerState, ...]
    tuples: tuple[Tuple, ...]
    content: bytes | None

    def tuple_at(self, number: int) -> Tuple:
        return next(one for one in self.tuples if one.number == number)

    @property
    def free_bytes(self) -> int:
        return self.upper - self.lower


def parse_page(block: int, content: bytes, attributes: Sequence[Attribute]) -> HeapPage:
    """Raises RidelakeError if the bytes do not have this layout (for example, another byte order)."""
    _, _, _, lower, upper, _, size_and_version, _ = HEADER.unpack_from(content)
    size, version = size_and_version & 0xFF00, size_and_version & 0x00FF
    if (size, version) != (len(content), LAYOUT_VERSION) or not HEADER.size <= lower <= upper <= size:
        raise RidelakeError(
            f"cannot read page {block}: its layout is not that of Postgres on a little-endian machine"
        )
    pointers: list[PointerState] = []
    tuples = []
    for number, place in enumerate(range(HEADER.size, lower, POINTER_BYTES), start=1):
        (pointer,) = struct.unpack_from("<I", content, place)
        offset, state, length = pointer & 0x7FFF, (pointer >> 15) & 0b11, pointer >> 17
        pointers.append(POINTER_STATES[state])  # type: ignore[arg-type]
        if POINTER_STATES[state] == "normal":
            tuples.append(parse_tuple(number, content, Span(offset, length), attributes))
    return HeapPage(block, size, lower, upper, tuple(pointers), tuple(tuples), content)


def parse_tuple(number: int, content: bytes, span: Span, attributes: Sequence[Attribute]) -> Tuple:
    """The positions of the values of a tuple."""
    *_, infomask2, infomask, header_bytes = TUPLE_HEADER.unpack_from(content, span.offset)
    nulls = content[span.offset + TUPLE_HEADER.size : span.offset + header_bytes]
    begin = span.offset + header_bytes
    place = begin
    columns: dict[str, Span | None] = {}
    for index, attribute in enumerate(attributes):
        absent = index >= infomask2 & COLUMNS  # the column was added after this row was written
        if absent or (infomask & HAS_NULLS and not nulls[index // 8] >> index % 8 & 1):
            found = None
        else:
            if (
                attribute.length != -1 or content[place] == 0
            ):  # a short varlena begins with its length, unaligned
                place = begin + aligned(place - begin, attribute)
            found = Span(place, _length(content, place, attribute))
            place = found.end
        if not attribute.dropped:
            columns[attribute.name] = found
    return Tuple(number, span, header_bytes, columns)


def aligned(place: int, attribute: Attribute) -> int:
    step = ALIGNMENTS[attribute.alignment]
    return (place + step - 1) // step * step


def _length(content: bytes, place: int, attribute: Attribute) -> int:
    if attribute.length >= 0:
        return attribute.length
    first = content[place]
    if first == 0x01:
        return TOAST_POINTER_BYTES
    if first & 1:
        return first >> 1
    (whole,) = struct.unpack_from("<I", content, place)
    return int(whole) >> 2
