"""How a table lies in its files: what each engine needs to leave most of a file unread.

An engine skips a row group whose smallest and largest value rule it out. So rows that are asked for
together lie together: rides by city, then by time. A file is one sorted run; within a row group, every
column has the encoding that its values are made for; the file says how it is sorted, and where its pages
are.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.columns import Column
from lakehouse.epoch import DataFile
from lakehouse.storage import Storage

# DuckDB, Polars and pyarrow skip by row group only, so it should be small; below 10,000 rows files grow
# by a third. 122,880 is DuckDB's own, sixty of its vectors.
ROW_GROUP_ROWS = 122_880

# DataFusion and chDB skip by page too.
PAGE_ROWS = 20_000

# A file is a sorted run, and what has to be written anew when a row of it changes: around 20 MB of rides.
RUN_ROWS = 4 * ROW_GROUP_ROWS

# And no larger than this in memory, whatever its rows hold: a string array ends at 2 GiB.
RUN_BYTES = 160 << 20

# Settled rows that are fewer than this, and smaller, stay in the table's open file.
SEAL_ROWS = 20_000
SEAL_BYTES = 32 << 20

# Behind these encodings higher levels find nothing more: level 3 takes half as long again for files of rides
# that are one per cent larger.
ZSTD_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Layout:
    """`order_by`: the columns the rows are ordered by (empty: the key). `settled`: which rows are not
    expected to change any more (None: nothing is known, so all are as good as settled)."""

    order_by: tuple[str, ...] = ()
    settled: Callable[[pa.Table], pa.ChunkedArray] | None = None


UNKNOWN = Layout()

# The store's tables of an epoch. Rides under way and money that is held change within minutes, so they
# are kept apart from the mass that does not: an epoch then writes anew what is under way, and no more.
STORE_TABLES: dict[str, Layout] = {
    "cities": Layout(),
    "zones": Layout(),
    "accounts": Layout(),
    "riders": Layout(),
    "drivers": Layout(),
    "rides": Layout(("city_id", "requested_at"), lambda rides: pc.is_valid(rides["ended_at"])),
    "payments": Layout(settled=lambda payments: pc.not_equal(payments["status"], "held")),
    "requests": Layout(("decided_at",)),
    "ledger": Layout(),
}


def folder_of(table: str) -> str:
    """The folder of a table's files in the lake. Postgres takes any name; what a folder or a URL could not
    be called is written as %2F and the like, and what the lake has a folder for gets a % behind it."""
    name = quote(table, safe=" ").replace(".", "%2E")
    return f"{name}%" if name.lower() == "epochs" else name


def write_run(
    storage: Storage,
    stem: str,
    columns: Sequence[Column],
    schema: pa.Schema,
    order_by: Sequence[str],
    rows: pa.Table,
    *,
    sealed: bool,
) -> DataFile:
    """Write `rows` (at most RUN_ROWS, sorted by `order_by`) as one file, `stem`-….parquet. A table without
    rows is one file without rows: every engine can read that, and none an empty list.

    `schema` has the Iceberg field ids. The file is stored when this returns; `storage.settle` puts it on
    disk."""
    location = f"{stem}-{secrets.token_hex(4)}.parquet"
    rows = pa.Table.from_arrays(rows.columns, schema=schema)
    options = _options(columns, schema, order_by)
    with storage.create(location) as file, pq.ParquetWriter(file, schema, **options) as writer:
        if rows.num_rows:
            writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
    size, sha256 = storage.bytes_and_sha256(location)
    return DataFile(location, rows.num_rows, size, sha256, sealed)


def _options(columns: Sequence[Column], schema: pa.Schema, order_by: Sequence[str]) -> dict[str, object]:
    delta = [
        c for c in columns if pa.types.is_timestamp(c.arrow_type) or (c.in_key and c.arrow_type == pa.int64())
    ]
    random = [c.name for c in columns if c.pg_type == "uuid"]
    encoding = {c.name: "DELTA_BINARY_PACKED" for c in delta}
    encoding |= {c.name: "BYTE_STREAM_SPLIT" for c in columns if c.pg_type in ("float4", "float8")}
    # Lengths apart from the letters: zstd finds the hexadecimal digits faster, and they get a tenth smaller.
    encoding |= dict.fromkeys(random, "DELTA_LENGTH_BYTE_ARRAY")
    return {
        "compression": "zstd",
        "compression_level": ZSTD_LEVEL,
        "use_dictionary": [c.name for c in columns if c.name not in encoding],
        "column_encoding": encoding,
        "sorting_columns": pq.SortingColumn.from_ordering(schema, [(name, "ascending") for name in order_by]),
        "write_page_index": True,
        "max_rows_per_page": PAGE_ROWS,
        "store_decimal_as_integer": True,
        # For `WHERE request_id = …`: a random key is in the range of every row group.
        "bloom_filter_options": {name: {"ndv": ROW_GROUP_ROWS, "fpp": 0.01} for name in random},
    }
