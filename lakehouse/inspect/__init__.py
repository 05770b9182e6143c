"""The bytes of a ride and of a column in both layouts: a heap page and a row group.

    row-major                                    column-major
    ┌ page ─────────────────────────┐            ┌ row group ────────────────────┐
    │ tuple: a b c d │ tuple: a b c d │  …       │ a a a a a │ b b b b b │ c c c … │
    └───────────────────────────────┘            └───────────────────────────────┘
    a ride: adjacent bytes                       a ride: some bytes of every chunk
    a column: some bytes of every tuple          a column: one chunk

`heap_page.py` reads and parses the page, `parquet_pages.py` the file, and `draw.py` draws the result.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ridelake.errors import NotReady, UsageError

if TYPE_CHECKING:
    from lakehouse.inspect.heap_page import RideInHeap
    from lakehouse.inspect.parquet_pages import RideInParquet
    from ridelake.settings import Settings

COLUMN = "fare_cents"


@dataclass(frozen=True, slots=True)
class XrayResult:
    """One ride and one column, in the current heap and in the files of an epoch."""

    ride_id: int
    column: str
    epoch: int
    heap: "RideInHeap"
    files: "RideInParquet"

    @property
    def ride_bytes_in_heap(self) -> int:
        """The pages of the primary key from root to leaf, and the heap page."""
        return ((self.heap.index_pages or 0) + 1) * self.heap.page.page_bytes

    @property
    def ride_bytes_in_files(self) -> int:
        """The footer, and for every column the page with the ride and its dictionary."""
        return self.files.footer_bytes + sum(chunk.bytes_for_the_ride for chunk in self.files.chunks)

    @property
    def row_group_bytes(self) -> int:
        """Every chunk of the row group, which a reader without page index must read."""
        return sum(chunk.bytes for chunk in self.files.chunks)

    @property
    def column_bytes_in_heap(self) -> int:
        """All pages of the heap."""
        return self.heap.heap_bytes

    @property
    def column_bytes_in_files(self) -> int:
        return self.files.chunk_bytes[self.column]

    @property
    def changed_columns(self) -> list[str]:
        """Columns whose value in the heap, decoded from its bytes, differs from the one in the files."""
        return [
            chunk.column
            for chunk in self.files.chunks
            if self.heap.values and _plain(self.heap.values[chunk.column]) != _plain(chunk.value)
        ]

    def report(self) -> dict[str, Any]:
        """The document of `--json`."""
        page = self.heap.page
        return {
            "ride_id": self.ride_id,
            "column": self.column,
            "epoch": self.epoch,
            "bytes_touched": {
                "ride": {
                    "row_major": self.ride_bytes_in_heap,
                    "column_major": self.ride_bytes_in_files,
                    "column_major_whole_row_group": self.row_group_bytes,
                },
                "column": {
                    "row_major": self.column_bytes_in_heap,
                    "column_major": self.column_bytes_in_files,
                },
            },
            "heap": {
                "block": page.block,
                "bytes": page.page_bytes,
                "lower": page.lower,
                "upper": page.upper,
                "places": "measured" if page.content is not None else "computed from the lengths",
                "index_pages": self.heap.index_pages,
                "heap_bytes": self.heap.heap_bytes,
                "line_pointers": list(page.pointers),
                "ride": asdict(self.heap.ride),
                "tuples": [{"number": one.number, **asdict(one.span)} for one in page.tuples],
                "values": dict(self.heap.values),
            },
            "row_group": {
                "file": self.files.file.location,
                "group": self.files.group,
                "rows": self.files.rows,
                "row": self.files.row,
                "chunks": [asdict(chunk) for chunk in self.files.chunks],
            },
            "changed_columns": self.changed_columns,
        }


def _plain(value: Any) -> Any:
    """The value in the type of the files, in which a uuid is text."""
    return str(value) if isinstance(value, UUID) else value


def xray_ride(
    settings: "Settings", ride_id: int | None = None, column: str = COLUMN, source: str | None = None
) -> XrayResult:
    """Where the ride is stored in Postgres and in the lake. `source`: the store, in a lake of several. Raises
    NotReady if there is no epoch with rides, UsageError for a ride, a column or a store that does not
    exist."""
    from lakehouse.inspect.heap_page import ride_in_heap
    from lakehouse.inspect.parquet_pages import ride_in_files
    from lakehouse.table.published import check_files_exist, newest_epoch, pin_epoch
    from lakehouse.table.storage import Storage
    from lakehouse.table.stores import check_has_no_dsn
    from oltp.store import open_existing_store

    epoch = newest_epoch(settings.lake)
    if source is not None:
        check_has_no_dsn(source)
    if source is not None or epoch.stores:
        epoch = epoch.of(source or "")
    rides = next((table for table in epoch.tables.values() if table.source == "ridelake.rides"), None)
    if rides is None:
        raise NotReady("this lake does not have the table rides: run `ridelake snapshot` with another --lake")
    with pin_epoch(settings.lake, epoch):
        check_files_exist(settings.lake, epoch)
        files = ride_in_files(Storage.of(settings.lake), rides, ride_id)
    columns = [chunk.column for chunk in files.chunks]
    if column not in columns:
        raise UsageError(f"the table rides has no column '{column}': choose one of {', '.join(columns)}")
    found: int = files.chunk_of("ride_id").value
    with open_existing_store(settings) as store:
        return XrayResult(found, column, epoch.number, ride_in_heap(store, found), files)
