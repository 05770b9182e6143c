"""The row group of a ride: its file, the positions of its column chunks, and the page with the ride in each.

They are read from the footer, by pyarrow, and from the header of each page (`page_header.py`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.epoch import DataFile, TableState
from lakehouse.storage import Storage
from lakehouse.xray.page_header import Page, pages_of
from ridelake.errors import UsageError

HEAD_BYTES = 16  # of a chunk's first page, shown in hexadecimal
FIRST_VALUES = 3


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group. `page`: the data page with the ride. `head`: the first stored bytes of the
    first page, after its header."""

    column: str
    offset: int
    bytes: int
    compression: str
    encodings: tuple[str, ...]
    pages: tuple[Page, ...]
    page: Page
    head: str  # in hexadecimal digits
    first_values: tuple[Any, ...]
    value: Any  # of the ride

    @property
    def dictionary(self) -> Page | None:
        return next((page for page in self.pages if page.kind == "dictionary"), None)

    @property
    def bytes_for_the_ride(self) -> int:
        """Its page, and the dictionary of the page."""
        return self.page.bytes + (self.dictionary.bytes if self.dictionary else 0)


@dataclass(frozen=True, slots=True)
class RideInFiles:
    """`row`: the ride's row in its row group, from 0. `chunk_bytes`: total by column, over all row groups of
    all files of the table. `row_groups`: their number."""

    file: DataFile
    group: int
    rows: int
    row: int
    footer_bytes: int
    chunks: tuple[Chunk, ...]
    chunk_bytes: Mapping[str, int]
    row_groups: int

    def chunk_of(self, column: str) -> Chunk:
        return next(chunk for chunk in self.chunks if chunk.column == column)


def ride_in_files(storage: Storage, rides: TableState, ride_id: int | None) -> RideInFiles:
    """`ride_id`: None: the ride in the middle of the table's largest row group. Raises UsageError if there is
    no such ride."""
    footers = [(file, _footer(storage, file)) for file in rides.files]
    chunk_bytes: dict[str, int] = {}
    for _, footer in footers:
        for column, size in _chunk_bytes(footer):
            chunk_bytes[column] = chunk_bytes.get(column, 0) + size
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
    return RideInFiles(
        file,
        group,
        values.num_rows,
        row,
        footer_bytes,
        tuple(sorted(chunks, key=lambda chunk: chunk.offset)),
        chunk_bytes,
        sum(footer.num_row_groups for _, footer in footers),
    )


def _footer(storage: Storage, file: DataFile) -> pq.FileMetaData:
    with storage.open(file.location) as handle:
        return pq.read_metadata(handle)


def _chunk_bytes(footer: pq.FileMetaData) -> Iterator[tuple[str, int]]:
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            chunk = footer.row_group(group).column(index)
            yield chunk.path_in_schema, chunk.total_compressed_size


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


def _chunk(handle: pa.NativeFile, chunk: pq.ColumnChunkMetaData, row: int, values: pa.ChunkedArray) -> Chunk:
    offset = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    content = handle.read_at(chunk.total_compressed_size, offset)
    pages = tuple(pages_of(content, offset))
    begin = pages[0].header_bytes
    return Chunk(
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


def _page_of(pages: tuple[Page, ...], row: int) -> Page:
    after = 0
    for page in pages:
        after += page.values if page.kind == "data" else 0
        if page.kind == "data" and row < after:
            return page
    raise AssertionError("a chunk has as many values as its row group has rows")
