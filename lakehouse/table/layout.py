"""The layout of a table in its Parquet files, chosen so that engines can skip most of a file.

An engine skips a row group if its minimum and maximum exclude the wanted values. Rows that are queried
together are therefore stored together: rides by city, then by time. A file is one sorted run. Every column
has an encoding that suits its values. The file's metadata has the sort order and a page index.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.table.columns import SourceColumn
from lakehouse.table.epoch import DataFile
from lakehouse.table.storage import Storage
from ridelake.settings import LakeAddress

# DuckDB, Polars and pyarrow skip whole row groups only, so they should be small; below 10,000 rows files grow
# by a third. 61,440 is half of DuckDB's default, 30 of its vectors.
ROW_GROUP_ROWS = 61_440

# DataFusion and chDB also skip pages.
PAGE_ROWS = 20_000

# A file is a sorted run: about 10 MB of rides. With four row groups, each has about one city. A larger run
# takes more memory, and leaves more to write after the last row is received.
RUN_ROWS = 4 * ROW_GROUP_ROWS

# The limit of a run in memory.
RUN_BYTES = 80 << 20

# Fewer and smaller settled rows than this stay in the table's open file.
SEAL_ROWS = 20_000
SEAL_BYTES = 32 << 20

# After these encodings higher levels gain nothing: level 3 takes 1.5 times as long, and the files of rides
# are 1 % larger.
ZSTD_LEVEL = 1


# A column with more different values among the first rows of a file has no dictionary.
SAMPLE_ROWS = 4_096
SAMPLE_VALUES_MAX = 512


# Explains the files to readers who have only the folder.
README = "READ-ME-FIRST"


@dataclass(frozen=True, slots=True)
class TableLayout:
    """`order_by`: the columns by which the rows are sorted (empty: the key). `settled`: a mask of the rows
    that are not expected to change (None: all rows)."""

    order_by: tuple[str, ...] = ()
    settled: Callable[[pa.Table], pa.ChunkedArray] | None = None


UNKNOWN_LAYOUT = TableLayout()

# The store's tables of an epoch. Rides in progress and payments on hold change within minutes. They are
# stored separately from the other rows, so an epoch rewrites only the rides in progress.
STORE_TABLES: dict[str, TableLayout] = {
    "cities": TableLayout(),
    "zones": TableLayout(),
    "accounts": TableLayout(),
    "riders": TableLayout(),
    "drivers": TableLayout(),
    "rides": TableLayout(("city_id", "requested_at"), lambda rides: pc.is_valid(rides["ended_at"])),
    "payments": TableLayout(settled=lambda payments: pc.not_equal(payments["status"], "held")),
    "requests": TableLayout(("decided_at",)),
    "ledger": TableLayout(),
}


def table_folder(table: str) -> str:
    """The folder of a table's files in the lake. Characters that a folder name or a URL cannot contain are
    percent-encoded. A name that the lake uses itself, such as `epochs`, gets a % suffix."""
    name = quote(table, safe=" ").replace(".", "%2E")
    return f"{name}%" if name.lower() in ("epochs", README.lower()) else name


def epoch_tag(number: int) -> str:
    """The Iceberg tag of an epoch. A table has it if its metadata was written for the epoch."""
    return f"epoch_{number}"


def hint_location(address: LakeAddress, table: str) -> str:
    """The file that names the table's current metadata file, for readers that open a folder."""
    return address.join(table_folder(table), "metadata", "version-hint.text")


def write_run(
    storage: Storage,
    stem: str,
    columns: Sequence[SourceColumn],
    schema: pa.Schema,
    order_by: Sequence[str],
    pieces: Iterable[pa.Table],
    *,
    sealed: bool,
) -> DataFile:
    """Write the rows of all `pieces` (at most RUN_ROWS, sorted by `order_by`) as one file, `stem`-….parquet.
    A table without rows is one file without rows, because engines cannot read an empty list of files.

    `schema` has the Iceberg field ids. The file is complete when this returns; `storage.settle` flushes it to
    disk."""
    location = f"{stem}-{secrets.token_hex(4)}.parquet"
    groups = _row_groups(pieces, schema)
    first = next(groups, schema.empty_table())
    options = _options(columns, schema, order_by, first)
    count = 0
    with storage.create(location) as file, pq.ParquetWriter(file, schema, **options) as writer:
        for rows in chain([first] if first.num_rows else [], groups):
            writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
            count += rows.num_rows
    size, sha256 = storage.bytes_and_sha256(location)
    return DataFile(location, count, size, sha256, sealed)


def _row_groups(pieces: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows in tables of whole row groups; the last one may be smaller."""
    waiting = schema.empty_table()
    for piece in pieces:
        waiting = pa.concat_tables([waiting, pa.Table.from_arrays(piece.columns, schema=schema)])
        whole = waiting.num_rows // ROW_GROUP_ROWS * ROW_GROUP_ROWS
        if whole:
            yield waiting.slice(0, whole)
            waiting = waiting.slice(whole)
    if waiting.num_rows:
        yield waiting


def _options(
    columns: Sequence[SourceColumn], schema: pa.Schema, order_by: Sequence[str], first: pa.Table
) -> dict[str, object]:
    """`first`: the first rows of the file."""
    delta = [
        c
        for c in columns
        if pa.types.is_timestamp(c.arrow_type)
        or (c.in_key and c.arrow_type == pa.int64())
        or (pa.types.is_integer(c.arrow_type) and _has_many_values(first[c.name]))
    ]
    # Differences of microseconds are as good as random: zstd costs as much again and gains nothing.
    plain = {
        c.name for c in delta if pa.types.is_timestamp(c.arrow_type) and not _are_whole_seconds(first[c.name])
    }
    random = [c.name for c in columns if c.pg_type == "uuid"]
    paths = [path for field in schema for path in _leaf_paths(field.name, field.type)]
    encoding = {c.name: "DELTA_BINARY_PACKED" for c in delta}
    encoding |= {c.name: "BYTE_STREAM_SPLIT" for c in columns if c.pg_type in ("float4", "float8")}
    # With lengths and characters stored separately, zstd is faster and the column is 10 % smaller.
    encoding |= dict.fromkeys(random, "DELTA_LENGTH_BYTE_ARRAY")
    return {
        "compression": {path: "none" if path in plain else "zstd" for path in paths},
        "compression_level": {path: ZSTD_LEVEL for path in paths if path not in plain},
        "use_dictionary": [path for path in paths if path not in encoding],
        "column_encoding": encoding,
        "sorting_columns": pq.SortingColumn.from_ordering(schema, [(name, "ascending") for name in order_by]),
        "write_page_index": True,
        "max_rows_per_page": PAGE_ROWS,
        "store_decimal_as_integer": True,
        # For `WHERE request_id = …`: a random key is within the minimum and maximum of every row group.
        "bloom_filter_options": {name: {"ndv": ROW_GROUP_ROWS, "fpp": 0.01} for name in random},
    }


def _leaf_paths(path: str, type_: pa.DataType) -> Iterator[str]:
    """The paths of the Parquet columns of a column: a struct has one for each field."""
    if pa.types.is_list(type_):
        yield from _leaf_paths(f"{path}.list.element", type_.value_type)
    elif pa.types.is_struct(type_):
        for field in type_:
            yield from _leaf_paths(f"{path}.{field.name}", field.type)
    else:
        yield path


def _has_many_values(column: pa.ChunkedArray) -> bool:
    """Whether delta encoding is better than a dictionary: it then takes half the time to write, and a tenth
    less space."""
    return bool(pc.count_distinct(column.slice(0, SAMPLE_ROWS)).as_py() > SAMPLE_VALUES_MAX)


def _are_whole_seconds(times: pa.ChunkedArray) -> bool:
    microseconds = pc.fill_null(times.slice(0, SAMPLE_ROWS).cast(pa.int64()), 0).to_numpy()
    return bool((microseconds % 1_000_000 == 0).all())
