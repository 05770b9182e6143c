"""Copy on write: find the files that contain changed or deleted rows, and the rows that replace them.

    removed keys ──> the open file        read completely, it is small
                 └─> sealed files         by the key range of each row group, then by the key
    remaining rows of those files + changed rows ──> written to new files; all other files stay

A key is in at most one file. Keys that are found in the open file are not searched for elsewhere, so an
epoch of an append-only table opens few sealed files.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.source.changes import TableChanges
from lakehouse.source.tables import TableSource
from lakehouse.table.epoch import DataFile
from lakehouse.table.storage import Storage

# Longer than any column name of Postgres, which has at most 63 bytes.
ROW_NUMBER = "row number".ljust(64)


@dataclass(frozen=True, slots=True)
class FileReplacement:
    """The `kept` files stay; the other files are replaced by `rows`."""

    kept: tuple[DataFile, ...]
    rows: pa.Table


def replace_rows(
    storage: Storage, files: Sequence[DataFile], table: TableSource, found: TableChanges
) -> FileReplacement:
    """Apply the changes in `found` to the table that consists of `files`."""
    if found.emptied:
        return FileReplacement((), found.changed)
    removed = pa.concat_tables([found.changed.select(table.key), found.deleted.select(table.key)])
    kept: list[DataFile] = []
    parts = [found.changed]
    for file in sorted(files, key=lambda file: file.sealed):  # the open one first
        if file.sealed and not _holds_any(storage, file, table, removed):
            kept.append(file)
            continue
        rows = _read(storage, file, table)
        found_here = _matching(rows.select(table.key), removed)
        parts.append(rows.filter(pc.invert(found_here)))
        removed = removed.filter(pc.invert(_matching(removed, rows.select(table.key).filter(found_here))))
    return FileReplacement(tuple(kept), pa.concat_tables(parts))


def read_rows(storage: Storage, files: Iterable[DataFile], table: TableSource) -> pa.Table:
    """All rows of the files, in the table's types."""
    return pa.concat_tables([_read(storage, file, table) for file in files])


def _read(storage: Storage, file: DataFile, table: TableSource) -> pa.Table:
    with storage.open(file.location) as stream:
        return pq.ParquetFile(stream).read(use_threads=False).cast(table.arrow_schema)


def _holds_any(storage: Storage, file: DataFile, table: TableSource, removed: pa.Table) -> bool:
    """Whether a row of the file has one of the keys."""
    if removed.num_rows == 0:
        return False
    first = table.key[0]
    try:
        wanted = removed[first].unique().to_pylist()
        has_nan = any(key != key for key in wanted)  # NaN is not in any range and cannot be sorted
        wanted = sorted(key for key in wanted if key == key)
    except (OverflowError, ValueError):  # a date outside of Python's range
        wanted, has_nan = [], True
    with storage.open(file.location) as stream:
        parquet = pq.ParquetFile(stream)
        place = parquet.schema_arrow.get_field_index(first)
        groups = [
            number
            for number in range(parquet.metadata.num_row_groups)
            if has_nan or _may_hold(parquet.metadata.row_group(number).column(place), wanted)
        ]
        if not groups:
            return False
        keys = parquet.read_row_groups(groups, columns=list(table.key), use_threads=False)
    return bool(pc.any(_matching(keys.select(table.key), removed)).as_py())


def _may_hold(column: pq.ColumnChunkMetaData, wanted: Sequence[Any]) -> bool:
    statistics = column.statistics
    if statistics is None or not statistics.has_min_max:
        return True
    try:
        place = bisect_left(wanted, statistics.min)
        return place < len(wanted) and bool(wanted[place] <= statistics.max)
    except (OverflowError, ValueError):
        return True


def _matching(keys: pa.Table, among: pa.Table) -> pa.Array:
    """A mask: for each of the keys, whether it is in `among`. Both have the key's columns."""
    keys, among = _one_zero(keys), _one_zero(among)
    if keys.num_columns == 1:
        return pc.is_in(keys.column(0).combine_chunks(), value_set=among.column(0).combine_chunks())
    names = keys.column_names
    numbered = keys.append_column(ROW_NUMBER, pa.array(range(keys.num_rows), pa.int64()))
    matched = numbered.join(among.group_by(names).aggregate([]), names, join_type="left semi")
    return pc.is_in(numbered[ROW_NUMBER].combine_chunks(), value_set=matched[ROW_NUMBER].combine_chunks())


def _one_zero(keys: pa.Table) -> pa.Table:
    """Replace -0 by 0, which are equal in Postgres and different in Arrow."""
    for place, field in enumerate(keys.schema):
        if pa.types.is_floating(field.type):
            zero = pa.scalar(0, field.type)
            keys = keys.set_column(place, field, pc.add(keys.column(place), zero))
    return keys
