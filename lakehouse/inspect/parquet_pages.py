"""The pages of Parquet column chunks, and the row group that holds a ride.

A chunk is a sequence of pages. Each page follows its header, a Thrift struct in the compact protocol. See
`PageHeader` in parquet.thrift of the Parquet format, and "Thrift Compact protocol" of Apache Thrift. pyarrow
does not expose these headers, so they are parsed here; the footer is read by pyarrow.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.table.epoch import DataFile, TableState
from lakehouse.table.storage import Storage
from ridelake.errors import UsageError

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
class ParquetPage:
    """One page. `offset`: of its header in the file. `bytes`: including the header."""

    kind: Literal["data", "dictionary"]
    offset: int
    header_bytes: int
    bytes: int
    values: int
    encoding: str


def pages_of(chunk: bytes, offset: int) -> Iterator[ParquetPage]:
    """The pages of a chunk, in order. `offset`: of the chunk in its file."""
    place = 0
    while place < len(chunk):
        header, body = _struct(chunk, place)
        inner, encoding = next((header[number], of) for number, of in INNER.items() if number in header)
        size = body - place + header[3]
        kind: Any = KINDS[header[1]]
        yield ParquetPage(kind, offset + place, body - place, size, inner[1], ENCODINGS[inner[encoding]])
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


HEAD_BYTES = 16  # the start of a chunk's first page, shown in hexadecimal
FIRST_VALUES = 3


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """One column of one row group. `page`: the data page with the ride. `head`: the first stored bytes of the
    first page, after its header."""

    column: str
    offset: int
    bytes: int
    compression: str
    encodings: tuple[str, ...]
    pages: tuple[ParquetPage, ...]
    page: ParquetPage
    head: str  # in hexadecimal digits
    first_values: tuple[Any, ...]
    value: Any  # the value of the ride

    @property
    def dictionary(self) -> ParquetPage | None:
        return next((page for page in self.pages if page.kind == "dictionary"), None)

    @property
    def bytes_for_the_ride(self) -> int:
        """Its page, and the dictionary of the page."""
        return self.page.bytes + (self.dictionary.bytes if self.dictionary else 0)


@dataclass(frozen=True, slots=True)
class RideInParquet:
    """`row`: the ride's row in its row group, from 0. `chunk_bytes`: total by column, over all row groups of
    all files of the table. `row_groups`: their number."""

    file: DataFile
    group: int
    rows: int
    row: int
    footer_bytes: int
    chunks: tuple[ColumnChunk, ...]
    chunk_bytes: Mapping[str, int]
    row_groups: int

    def chunk_of(self, column: str) -> ColumnChunk:
        return next(chunk for chunk in self.chunks if chunk.column == column)


def ride_in_files(storage: Storage, rides: TableState, ride_id: int | None) -> RideInParquet:
    """`ride_id`: None: the ride in the middle of the table's largest row group. Raises UsageError if there is
    no such ride."""
    footers = [(file, _footer(storage, file)) for file in rides.files]
    chunk_bytes, row_groups = _sizes([footer for _, footer in footers])
    if ride_id is None:
        file, group, row = _middle(footers)
    else:
        file, group, row = _place(storage, footers, ride_id)
    with storage.open(file.location) as handle, pq.ParquetFile(handle) as parquet:
        footer_bytes = parquet.metadata.serialized_size
        of_group = parquet.metadata.row_group(group)
        values = parquet.read_row_group(group)
        chunks = tuple(
            _chunk(handle, of_group.column(index), row, values.column(index))
            for index in range(of_group.num_columns)
        )
    return RideInParquet(
        file,
        group,
        values.num_rows,
        row,
        footer_bytes,
        tuple(sorted(chunks, key=lambda chunk: chunk.offset)),
        chunk_bytes,
        row_groups,
    )


def column_sizes(storage: Storage, table: TableState) -> tuple[dict[str, int], int]:
    """The stored bytes of each column over all files of the table, and the number of row groups."""
    return _sizes([_footer(storage, file) for file in table.files])


def _footer(storage: Storage, file: DataFile) -> pq.FileMetaData:
    with storage.open(file.location) as handle:
        return pq.read_metadata(handle)


def _sizes(footers: Sequence[pq.FileMetaData]) -> tuple[dict[str, int], int]:
    """The bytes of each column, and the number of row groups."""
    found: dict[str, int] = {}
    for footer in footers:
        for group in range(footer.num_row_groups):
            for index in range(footer.num_columns):
                chunk = footer.row_group(group).column(index)
                size = found.get(chunk.path_in_schema, 0) + chunk.total_compressed_size
                found[chunk.path_in_schema] = size
    return found, sum(footer.num_row_groups for footer in footers)


def _middle(footers: list[tuple[DataFile, pq.FileMetaData]]) -> tuple[DataFile, int, int]:
    groups = [
        (footer.row_group(group).num_rows, file, group)
        for file, footer in footers
        for group in range(footer.num_row_groups)
    ]
    if not groups:
        raise UsageError(
            "the newest epoch has no rides: run `ridelake seed --rides 100000`, then `ridelake snapshot`"
        )
    rows, file, group = max(groups, key=lambda one: one[0])
    return file, group, rows // 2


def _place(
    storage: Storage, footers: list[tuple[DataFile, pq.FileMetaData]], ride_id: int
) -> tuple[DataFile, int, int]:
    for file, footer in footers:
        key = footer.schema.to_arrow_schema().get_field_index("ride_id")
        for group in range(footer.num_row_groups):
            bounds = footer.row_group(group).column(key).statistics
            if bounds is not None and bounds.has_min_max and not bounds.min <= ride_id <= bounds.max:
                continue
            with storage.open(file.location) as handle, pq.ParquetFile(handle) as parquet:
                ids = parquet.read_row_group(group, columns=["ride_id"]).column(0)
            row = pc.index(ids, pa.scalar(ride_id, ids.type)).as_py()
            if row >= 0:
                return file, group, row
    raise UsageError(f"there is no ride {ride_id} in the newest epoch: choose another with --ride")


def _chunk(
    handle: pa.NativeFile, chunk: pq.ColumnChunkMetaData, row: int, values: pa.ChunkedArray
) -> ColumnChunk:
    offset = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    content = handle.read_at(chunk.total_compressed_size, offset)
    pages = tuple(pages_of(content, offset))
    begin = pages[0].header_bytes
    return ColumnChunk(
        chunk.path_in_schema,
        offset,
        chunk.total_compressed_size,
        chunk.compression,
        tuple(dict.fromkeys(page.encoding for page in pages)),
        pages,
        _page_of(pages, row),
        content[begin : begin + HEAD_BYTES].hex(" "),
        tuple(values.slice(0, FIRST_VALUES).to_pylist()),
        values[row].as_py(),
    )


def _page_of(pages: tuple[ParquetPage, ...], row: int) -> ParquetPage:
    after = 0
    for page in pages:
        after += page.values if page.kind == "data" else 0
        if page.kind == "data" and row < after:
            return page
    raise AssertionError("a chunk has as many values as its row group has rows")
