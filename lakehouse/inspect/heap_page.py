"""A page of the Postgres heap, byte by byte, and the page that holds a ride.

    0        24               lower              upper                              special = 8,192
    ├ header ┼ line pointers ──> │  free space    │ <── tuples, the first one last ──┤

The layout is documented in the Postgres manual, chapter "Database Physical Storage", section "Database Page
Layout" (PageHeaderData, ItemIdData, HeapTupleHeaderData). The alignment and length of values are in
pg_attribute and pg_type.

The page is read with pageinspect, which requires a superuser. If it is not installed, it is created in a
transaction that is rolled back. For any other role, the tuples of the page are found by ctid and
pg_column_size.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from psycopg import Connection, IsolationLevel, Rollback
from psycopg.rows import TupleRow

from oltp.store import Store, transaction
from ridelake.errors import NotReady, RidelakeError
from ridelake.queries import load_queries

QUERIES = load_queries("lakehouse.inspect")

# pd_lsn, pd_checksum, pd_flags, pd_lower, pd_upper, pd_special, pd_pagesize_version, pd_prune_xid
HEADER = struct.Struct("<QHHHHHHI")
LAYOUT_VERSION = 4  # since Postgres 8.3

POINTER_BYTES = 4
POINTER_STATES = ("unused", "normal", "redirect", "dead")

# t_xmin, t_xmax, t_cid, t_ctid (block high, block low, number), t_infomask2, t_infomask, t_hoff
TUPLE_HEADER = struct.Struct("<IIIHHHHHB")
HAS_NULLS = 0x0001  # a bit of t_infomask
COLUMNS = 0x07FF  # a mask of t_infomask2

TOAST_POINTER_BYTES = 18
ALIGNMENTS = {"c": 1, "s": 2, "i": 4, "d": 8}

PointerState = Literal["unused", "normal", "redirect", "dead"]


@dataclass(frozen=True, slots=True)
class ByteRange:
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
    labels: dict[int, str]  # the labels of the enum, by oid
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class HeapTuple:
    """A version of a row. `columns`: the position of each value; None: a null, which has only a bit."""

    number: int  # the number of its line pointer, from 1: the second half of a ctid
    span: ByteRange
    header_bytes: int
    columns: dict[str, ByteRange | None]


@dataclass(frozen=True, slots=True)
class HeapPage:
    """One heap page. `content`: None if the role may not read the page. The sizes are then measured, and the
    positions are computed from them, with tuples placed from the end of the page as in Postgres."""

    block: int
    page_bytes: int
    lower: int
    upper: int
    pointers: tuple[PointerState, ...]
    tuples: tuple[HeapTuple, ...]
    content: bytes | None

    def tuple_at(self, number: int) -> HeapTuple:
        return next(one for one in self.tuples if one.number == number)

    @property
    def free_bytes(self) -> int:
        return self.upper - self.lower


def parse_page(block: int, content: bytes, attributes: Sequence[Attribute]) -> HeapPage:
    """The header, item pointers and tuples of a page. Raises RidelakeError if the bytes do not have this
    layout (for example, another byte order)."""
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
            tuples.append(parse_tuple(number, content, ByteRange(offset, length), attributes))
    return HeapPage(block, size, lower, upper, tuple(pointers), tuple(tuples), content)


def parse_tuple(number: int, content: bytes, span: ByteRange, attributes: Sequence[Attribute]) -> HeapTuple:
    """The positions of the values of a tuple."""
    *_, infomask2, infomask, header_bytes = TUPLE_HEADER.unpack_from(content, span.offset)
    nulls = content[span.offset + TUPLE_HEADER.size : span.offset + header_bytes]
    begin = span.offset + header_bytes
    place = begin
    columns: dict[str, ByteRange | None] = {}
    for index, attribute in enumerate(attributes):
        absent = index >= infomask2 & COLUMNS  # the column was added after this row was written
        if absent or (infomask & HAS_NULLS and not nulls[index // 8] >> index % 8 & 1):
            found = None
        else:
            if (
                attribute.length != -1 or content[place] == 0
            ):  # a short varlena begins with its length, unaligned
                place = begin + aligned(place - begin, ALIGNMENTS[attribute.alignment])
            found = ByteRange(place, _length(content, place, attribute))
            place = found.end
        if not attribute.dropped:
            columns[attribute.name] = found
    return HeapTuple(number, span, header_bytes, columns)


def aligned(place: int, step: int) -> int:
    """The next multiple of `step`."""
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


# Times in Postgres are relative to this time.
EPOCH = datetime(2000, 1, 1)

NUMBERS = {
    "int2": "<h",
    "int4": "<i",
    "int8": "<q",
    "float4": "<f",
    "float8": "<d",
    "oid": "<I",
    "xid8": "<Q",
}
TEXTS = ("text", "varchar", "bpchar")

Value = int | float | str | bool | date | datetime | UUID | None


def decode_heap_value(content: bytes, span: ByteRange | None, attribute: Attribute) -> Value:
    """None for a null. Compressed or out-of-line text, and other types, are returned as hexadecimal bytes."""
    if span is None:
        return None
    raw = content[span.offset : span.end]
    if attribute.labels:
        return attribute.labels[struct.unpack("<I", raw)[0]]
    if attribute.type in NUMBERS:
        return struct.unpack(NUMBERS[attribute.type], raw)[0]  # type: ignore[no-any-return]
    if attribute.type == "bool":
        return raw == b"\x01"
    if attribute.type in ("timestamptz", "timestamp"):
        moment = EPOCH + timedelta(microseconds=struct.unpack("<q", raw)[0])
        return moment.replace(tzinfo=UTC) if attribute.type == "timestamptz" else moment
    if attribute.type == "date":
        return EPOCH.date() + timedelta(days=struct.unpack("<i", raw)[0])
    if attribute.type == "uuid":
        return UUID(bytes=raw)
    if attribute.type in TEXTS and raw[0] != 0x01 and raw[0] & 0b11 != 0b10:  # 10: compressed
        return raw[1 if raw[0] & 1 else 4 :].decode()
    return f"\\x{raw.hex()}"


ALIGNMENT_BYTES = 8  # MAXALIGN: the alignment of a tuple and of its data


@dataclass(frozen=True, slots=True)
class RideInHeap:
    """`index_pages`: from the root of the primary key to the leaf; None if not measured. `values`: of the
    ride, decoded from its bytes; empty if the role may not read them."""

    page: HeapPage
    ride: HeapTuple
    heap_bytes: int
    index_pages: int | None
    values: Mapping[str, Value]

    @property
    def heap_pages(self) -> int:
        return self.heap_bytes // self.page.page_bytes


def ride_in_heap(store: Store, ride_id: int) -> RideInHeap:
    """The row version of the ride and its page. Raises NotReady if the ride is not in Postgres."""
    with store.connect() as connection:
        return ride_in_heap_on(connection, ride_id)


def ride_in_heap_on(connection: Connection[TupleRow], ride_id: int, *, may_create: bool = True) -> RideInHeap:
    """As `ride_in_heap`. `may_create` False: pageinspect is used only if it is installed."""
    may, schema = _row(connection, "may_read_pages")
    may = may and (may_create or schema is not None)
    with _snapshot(connection, create=may and schema is None):
        if schema is not None:
            connection.execute("SELECT set_config('search_path', %s, true)", (f'ridelake, "{schema}"',))
        found = connection.execute(QUERIES["place"], {"ride_id": ride_id}).fetchone()
        if found is None:
            raise NotReady(
                f"ride {ride_id} is in the newest epoch but no longer in Postgres: run `ridelake "
                "snapshot`, or choose another ride with --ride"
            )
        block, number, heap_bytes, page_bytes = found
        attributes = [Attribute(*row) for row in _attributes(connection)]
        if may:
            content, index_pages = _row(connection, "raw_page", {"block": block})
            page = parse_page(block, content, attributes)
        else:
            index_pages, page = None, _page_by_sizes(connection, block, page_bytes, attributes)
    ride = page.tuple_at(number)
    return RideInHeap(page, ride, heap_bytes, index_pages, _values(page, ride, attributes))


def _values(page: HeapPage, ride: HeapTuple, attributes: list[Attribute]) -> dict[str, Value]:
    if page.content is None:
        return {}
    return {
        attribute.name: decode_heap_value(page.content, ride.columns[attribute.name], attribute)
        for attribute in attributes
        if not attribute.dropped
    }


@contextmanager
def _snapshot(connection: Connection[TupleRow], *, create: bool) -> Iterator[None]:
    """One snapshot, so that visible rows do not move. A created extension is rolled back."""
    with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=not create):
        if create:
            connection.execute("CREATE EXTENSION pageinspect")
        yield
        if create:
            raise Rollback


def _attributes(connection: Connection[TupleRow]) -> list[tuple[Any, ...]]:
    return [
        (name, type_, length, alignment, {int(oid): word for oid, word in (labels or {}).items()}, dropped)
        for name, type_, length, alignment, labels, dropped in connection.execute(QUERIES["attributes"])
    ]


def _page_by_sizes(
    connection: Connection[TupleRow], block: int, page_bytes: int, attributes: list[Attribute]
) -> HeapPage:
    """Compute the page from the sizes of its tuples. Rides have only columns of fixed length, so the nulls of
    a row determine the position of each value. Postgres places tuples from the end of the page."""
    rows = connection.execute(
        QUERIES["sizes_of_tuples"], {"first": f"({block},0)", "after": f"({block + 1},0)"}
    ).fetchall()
    upper, tuples = page_bytes, []
    for number, size, nulls in rows:
        upper -= aligned(size, ALIGNMENT_BYTES)
        tuples.append(_tuple_by_size(number, ByteRange(upper, size), nulls, attributes))
    numbers = {number for number, _, _ in rows}
    last = max(numbers)
    return HeapPage(
        block,
        page_bytes,
        HEADER.size + POINTER_BYTES * last,
        upper,
        tuple("normal" if number in numbers else "unused" for number in range(1, last + 1)),
        tuple(tuples),
        None,
    )


def _tuple_by_size(number: int, span: ByteRange, nulls: list[str], attributes: list[Attribute]) -> HeapTuple:
    bitmap_bytes = (len(attributes) + 7) // 8 if nulls else 0
    header = aligned(TUPLE_HEADER.size + bitmap_bytes, ALIGNMENT_BYTES)
    place = 0
    columns: dict[str, ByteRange | None] = {}
    for attribute in attributes:
        if attribute.dropped:
            continue
        if attribute.name in nulls:
            columns[attribute.name] = None
            continue
        place = aligned(place, ALIGNMENTS[attribute.alignment])
        columns[attribute.name] = ByteRange(span.offset + header + place, attribute.length)
        place += attribute.length
    return HeapTuple(number, span, header, columns)


def _row(connection: Connection[TupleRow], name: str, values: Mapping[str, Any] | None = None) -> TupleRow:
    found = connection.execute(QUERIES[name], values).fetchone()
    assert found is not None
    return found
