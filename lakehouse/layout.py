"""How a table lies in its files: what each engine needs to leave most of a file unread.

An engine skips a row group whose smallest and largest value rule it out. So rows that are asked for
together lie together: rides by city, then by time. Within a row group, every column has the encoding
that its values are made for; the file says how it is sorted, and where its pages are.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.columns import Column

# The tables of an epoch, each with the columns its rows are ordered by.
TABLES: dict[str, tuple[str, ...]] = {
    "cities": ("city_id",),
    "zones": ("zone_id",),
    "accounts": ("account_id",),
    "riders": ("rider_id",),
    "drivers": ("driver_id",),
    "rides": ("city_id", "requested_at"),
    "payments": ("ride_id",),
    "requests": ("decided_at",),
    "ledger": ("transfer_id",),
}

# DuckDB, Polars and pyarrow skip by row group only, so it should be small; below 10,000 rows files grow
# by a third. 122,880 is DuckDB's own, sixty of its vectors.
ROW_GROUP_ROWS = 122_880

# DataFusion and chDB skip by page too.
PAGE_ROWS = 20_000

# A new file after this many row groups: around 200 MB of rides, a size object stores and engines like.
FILE_ROW_GROUPS = 48

# Level 9 takes two and a half times as long for one per cent.
ZSTD_LEVEL = 3


@dataclass(frozen=True, slots=True)
class DataFile:
    """A finished Parquet file."""

    path: Path
    rows: int
    bytes: int


def write_files(
    stem: Path,
    columns: Sequence[Column],
    schema: pa.Schema,
    order_by: Sequence[str],
    batches: Iterable[pa.RecordBatch],
) -> Iterator[DataFile]:
    """Write `batches`, a row group each, to `stem`-0.parquet, -1 …; each is on disk when it is yielded.
    A table without rows is one file without rows: every engine can read that, and none an empty list.

    `schema` has the Iceberg field ids; `order_by` is how the batches are really sorted."""
    options = _options(columns, schema, order_by)
    source = iter(batches)
    number, following = 0, next(source, None)
    while following is not None or number == 0:
        path = stem.with_name(f"{stem.name}-{number}.parquet")
        rows = groups = 0
        with path.open("xb") as file:
            with pq.ParquetWriter(file, schema, **options) as writer:
                while following is not None and groups < FILE_ROW_GROUPS:
                    batch = pa.RecordBatch.from_arrays(following.columns, schema=schema)
                    writer.write_batch(batch, row_group_size=max(len(batch), 1))
                    rows, groups = rows + len(batch), groups + 1
                    following = next(source, None)
            file.flush()
            os.fsync(file.fileno())
        yield DataFile(path, rows, path.stat().st_size)
        number += 1


def _options(columns: Sequence[Column], schema: pa.Schema, order_by: Sequence[str]) -> dict[str, object]:
    delta = [
        c for c in columns if pa.types.is_timestamp(c.arrow_type) or (c.in_key and c.arrow_type == pa.int64())
    ]
    random = [c.name for c in columns if c.pg_type == "uuid"]
    encoding = {c.name: "DELTA_BINARY_PACKED" for c in delta}
    encoding |= {c.name: "BYTE_STREAM_SPLIT" for c in columns if c.pg_type in ("float4", "float8")}
    encoding |= dict.fromkeys(random, "PLAIN")
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
