"""Draw the two layouts, with the same symbols.

░ other bytes   ▒ the column   ▓ the ride   █ the ride's value of the column
"""

from collections.abc import Iterator

from rich.text import Text

from lakehouse.inspect import XrayResult
from lakehouse.inspect.heap_page import HEADER, POINTER_BYTES, ByteRange, HeapPage
from lakehouse.inspect.parquet_pages import ColumnChunk

CELL_BYTES = 16  # bytes of the page per cell; a value of eight bytes fills half a cell
OFFSET_COLUMNS = 6
CHUNK_COLUMNS = 15 + 11 + 11  # name, offset, bytes

OTHERS, COLUMN, RIDE, VALUE = "░", "▒", "▓", "█"
HEAD, POINTER, FREE = "≡", "┊", "·"
STYLES = {
    OTHERS: "dim",
    COLUMN: "cyan",
    RIDE: "yellow",
    VALUE: "bold magenta",
    HEAD: "blue",
    POINTER: "blue",
    FREE: "dim",
}


def draw_xray(xray: XrayResult, columns: int) -> Iterator[Text]:
    """Both maps and the bytes to read, for a terminal with that many columns (60 or more)."""
    yield from _row_major(xray, columns)
    yield Text()
    yield from _column_major(xray, columns)
    yield Text()
    yield from bytes_to_read(xray)


def _row_major(xray: XrayResult, columns: int) -> Iterator[Text]:
    page, ride = xray.heap.page, f"ride {xray.ride_id}"
    yield Text(f"{ride}, {xray.column}", "bold")
    yield Text()
    yield _labeled(
        "ROW-MAJOR",
        f"  page {page.block:,} of {xray.heap.heap_pages:,} of the heap, {page.page_bytes:,} bytes",
    )
    yield from page_map(page, xray.heap.ride.number, xray.column, columns)
    yield from _legend(
        columns,
        (HEAD, "header"),
        (POINTER, f"{len(page.pointers)} line pointers"),
        (FREE, f"{page.free_bytes:,} bytes free"),
        (OTHERS, f"{len(page.tuples) - 1} other rides"),
        (COLUMN, f"their {xray.column}"),
        (RIDE, ride),
        (VALUE, f"its {xray.column}"),
    )
    yield from _value_in_page(xray)


def _column_major(xray: XrayResult, columns: int) -> Iterator[Text]:
    files = xray.files
    yield _labeled(
        "COLUMN-MAJOR",
        f"  row group {files.group} of {files.file.name} (epoch {xray.epoch}), "
        f"{xray.row_group_bytes:,} bytes, {files.rows:,} rides",
    )
    yield from row_group_map(xray, columns)
    yield from _legend(
        columns,
        (OTHERS, "other columns"),
        (COLUMN, xray.column),
        (RIDE, f"the page with ride {xray.ride_id}"),
        (VALUE, f"its {xray.column}"),
    )
    yield from _value_in_chunk(xray)


def page_map(page: HeapPage, number: int, column: str, columns: int) -> Iterator[Text]:
    """A cell is 16 bytes. If several elements share a cell, the rarest one is shown."""
    cells = [FREE] * (page.page_bytes // CELL_BYTES)

    def mark(span: ByteRange | None, sign: str) -> None:
        if span is not None and span.bytes:
            for cell in range(span.offset // CELL_BYTES, (span.end - 1) // CELL_BYTES + 1):
                cells[cell] = sign

    mark(ByteRange(HEADER.size, page.lower - HEADER.size), POINTER)
    mark(ByteRange(0, HEADER.size), HEAD)
    for one in page.tuples:
        mark(one.span, OTHERS)
    for one in page.tuples:
        mark(one.columns[column], COLUMN)
    ride = page.tuple_at(number)
    mark(ByteRange(HEADER.size + POINTER_BYTES * (number - 1), POINTER_BYTES), RIDE)
    mark(ride.span, RIDE)
    mark(ride.columns[column], VALUE)
    per_line = 64 if columns >= OFFSET_COLUMNS + 1 + 64 else 32
    for begin in range(0, len(cells), per_line):
        yield _signs(f"{begin * CELL_BYTES:>{OFFSET_COLUMNS},} ", cells[begin : begin + per_line])


def row_group_map(xray: XrayResult, columns: int) -> Iterator[Text]:
    """One bar per chunk, in file order, with the position of the ride's page."""
    chunks = xray.files.chunks
    width = columns - CHUNK_COLUMNS - 1
    largest = max(chunk.bytes for chunk in chunks)
    yield Text(f"{'column':<15}{'offset':>11}{'bytes':>11}", "dim")
    for chunk in chunks:
        label = f"{chunk.column:<15}{chunk.offset:>11,}{chunk.bytes:>11,} "
        yield _signs(label, list(_bar(chunk, width / largest, chunk.column == xray.column)))


def _bar(chunk: ColumnChunk, cells_per_byte: float, chosen: bool) -> Iterator[str]:
    length = max(1, round(chunk.bytes * cells_per_byte))
    begin = (chunk.page.offset - chunk.offset) / chunk.bytes * length
    end = begin + chunk.page.bytes / chunk.bytes * length
    for cell in range(length):
        here = int(begin) == cell or begin <= cell + 0.5 < end
        yield (VALUE if chosen else RIDE) if here else (COLUMN if chosen else OTHERS)


def _value_in_page(xray: XrayResult) -> Iterator[Text]:
    page, ride = xray.heap.page, xray.heap.ride
    spans = [span for one in page.tuples if (span := one.columns[xray.column]) is not None]
    share = sum(span.bytes for span in spans)
    yield Text(
        f"ctid ({page.block},{ride.number}): line pointer {ride.number} points to byte {ride.span.offset:,}. "
        f"The ride has {ride.span.bytes} bytes. {xray.column} has {share:,} of the "
        f"{page.page_bytes:,} bytes, in {count_noun(len(spans), 'place')}."
    )
    span = ride.columns[xray.column]
    if page.content is None:
        yield Text(
            "This role may not read the page, because pageinspect requires a superuser. The lengths are "
            "measured, the positions are computed from them."
        )
    elif span is None:
        yield Text(f"{xray.column} is null: one bit in the tuple's header and no other bytes.")
    else:
        raw = page.content[span.offset : span.end].hex(" ")
        yield Text(f"Byte {span.offset:,}: {raw} = {xray.heap.values[xray.column]}")


def _value_in_chunk(xray: XrayResult) -> Iterator[Text]:
    chunk = xray.files.chunk_of(xray.column)
    data = [page for page in chunk.pages if page.kind == "data"]
    prefix = (
        f"a dictionary of {count_noun(chunk.dictionary.values, 'value')} and " if chunk.dictionary else ""
    )
    yield Text(
        f"{xray.column}: {prefix}{count_noun(len(data), 'page')} ({', '.join(chunk.encodings)}; "
        f"{chunk.compression}), {chunk.bytes / xray.files.rows:.2f} bytes per ride. The ride is in page "
        f"{data.index(chunk.page) + 1}, {chunk.page.bytes:,} bytes at offset {chunk.page.offset:,}."
    )
    values = ", ".join("null" if value is None else str(value) for value in chunk.first_values)
    yield Text(f"The first page begins with {chunk.head} …; the first values are {values} …")
    if xray.heap.values:
        changed = xray.changed_columns
        yield Text(
            f"Changed since epoch {xray.epoch}: {', '.join(changed)}."
            if changed
            else f"All {len(xray.files.chunks)} values of the ride are equal in both."
        )


def bytes_to_read(xray: XrayResult) -> Iterator[Text]:
    """The number of bytes to read for the ride, and for the column, in each layout."""
    files, heap = xray.files, xray.heap
    dictionaries = sum(chunk.dictionary is not None for chunk in files.chunks)
    pages = (
        f"{heap.index_pages} of the index and 1 of the heap"
        if heap.index_pages
        else "of the heap; those of its index were not measured"
    )
    yield _labeled(
        "To read this ride: ",
        f"{xray.ride_bytes_in_heap:,} bytes row-major (pages of {heap.page.page_bytes:,}: {pages}); "
        f"{xray.ride_bytes_in_files:,} column-major (the footer, a page from each of {len(files.chunks)} "
        f"chunks, {count_noun(dictionaries, 'dictionary')}; {xray.row_group_bytes:,} if complete chunks are "
        "read).",
    )
    yield _labeled(
        f"To read {xray.column} of every ride: ",
        f"{xray.column_bytes_in_heap:,} bytes row-major (all {count_noun(heap.heap_pages, 'page')}); "
        f"{xray.column_bytes_in_files:,} column-major "
        f"(its chunk in {count_noun(files.row_groups, 'row group')}).",
    )


def count_noun(count: int, noun: str) -> str:
    """1 page, 2 pages, 2 dictionaries."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def _labeled(label: str, text: str) -> Text:
    return Text.assemble((label, "bold"), text)


def _legend(columns: int, *entries: tuple[str, str]) -> Iterator[Text]:
    """The entries, as many per line as fit."""
    line = Text()
    for sign, what in entries:
        if line and len(line) + 3 + 2 + len(what) > columns:
            yield line
            line = Text()
        line.append("   " if line else "").append(f"{sign} ", STYLES[sign]).append(what)
    yield line


def _signs(begin: str, cells: list[str]) -> Text:
    text = Text(begin)
    for sign in cells:
        text.append(sign, STYLES[sign])
    return text
