"""Apply the changes of a table to its files: mark rows as deleted, or rewrite a file.

    removed keys ──> the open file    read completely and written again, it is small
                 └─> sealed files     by the key range of each row group, then by the index of its keys:
                                      few rows     their positions are marked as deleted
                                      many rows    the file is replaced by its other rows
    changed rows and the other rows of replaced files ──> new files

A key is in at most one file. Keys that are found in the open file are not searched for elsewhere, so an
epoch of an append-only table opens few sealed files. The cost depends on the number of changes, not on the
size of the table.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.source.changes import TableChanges
from lakehouse.source.tables import TableSource
from lakehouse.table.deletes import NONE, ROW_NUMBER, Positions, deleted_in, without_rows
from lakehouse.table.epoch import DataFile, TableState
from lakehouse.table.key_index import Keys, can_be_indexed, hash_keys, open_keys
from lakehouse.table.storage import Storage
from ridelake.settings import LakeAddress

# A file is rewritten if a greater share of its rows is deleted. Reading a deleted row costs every query
# about as much as reading a row; rewriting costs each remaining row about 100 times that, once.
REWRITE_SHARE = 0.5

# Columns with the row number or the name of a file, in DuckDB, chDB and Spark. The files of a table with a
# column of such a name are rewritten instead.
RESERVED_NAMES = {"file_index", "file_row_number", "filename", "_file", "_path", "_row_number", "_metadata"}


@dataclass(frozen=True, slots=True)
class AppliedChanges:
    """The `kept` files stay, with the additional deleted rows `marked`, by location. The other files are
    replaced by `rows`."""

    kept: tuple[DataFile, ...]
    rows: pa.Table
    marked: Mapping[str, Positions] = field(default_factory=dict)


def apply_changes(
    storage: Storage, state: TableState, table: TableSource, found: TableChanges
) -> AppliedChanges:
    """Apply the changes to the table. `storage`: where the files of `state` are."""
    if found.emptied:
        return AppliedChanges((), found.changed)
    removed = pa.concat_tables([found.changed.select(table.key), found.deleted.select(table.key)])
    kept: list[DataFile] = []
    parts = [found.changed]
    for file in (file for file in state.files if not file.sealed):
        rows = _read(storage, file, table, _deleted_in(storage, state, file))
        found_here = _matching(rows.select(table.key), removed)
        parts.append(rows.filter(pc.invert(found_here)))
        removed = removed.filter(pc.invert(_matching(removed, rows.select(table.key).filter(found_here))))
    search = _Search(storage, state, table, removed)
    marked: dict[str, Positions] = {}
    for file in (file for file in state.files if file.sealed):
        if not len(positions := search.positions(file)):
            kept.append(file)
        elif file.deleted + len(positions) > REWRITE_SHARE * file.rows or not search.indexed:
            old = np.union1d(_deleted_in(storage, state, file), positions)
            parts.append(_read(storage, file, table, old))
        else:
            marked[file.location] = positions
            kept.append(replace(file, deleted=file.deleted + len(positions)))
    return AppliedChanges(tuple(kept), pa.concat_tables(parts), marked)


def read_rows(storage: Storage, state: TableState, files: Iterable[DataFile], table: TableSource) -> pa.Table:
    """The rows of these files of the table that are not deleted, in the table's types."""
    return pa.concat_tables(
        [_read(storage, file, table, _deleted_in(storage, state, file)) for file in files]
    )


def _deleted_in(storage: Storage, state: TableState, file: DataFile) -> Positions:
    if not file.deleted:
        return NONE
    return np.unique(np.concatenate(deleted_in(storage.address, state.deletes, file.location)))


def _read(storage: Storage, file: DataFile, table: TableSource, deleted: Positions) -> pa.Table:
    with storage.open(file.location) as stream:
        rows = pq.ParquetFile(stream).read(use_threads=False)
    return without_rows(rows, deleted).cast(table.arrow_schema)


class _Search:
    """Finds the rows of the removed keys in sealed files. Each key is found once."""

    def __init__(self, storage: Storage, state: TableState, table: TableSource, removed: pa.Table) -> None:
        self._storage, self._state, self._table = storage, state, table
        keys = removed.schema
        # Equal keys must have equal hashes, and every engine must be able to omit the rows.
        names = {column.name.lower() for column in table.columns}
        self.indexed = can_be_indexed(keys) and not names & RESERVED_NAMES
        self._removed = removed.group_by(table.key, use_threads=False).aggregate([]).select(table.key)
        self._range = _Range.of(self._removed.column(0))
        self._wanted: Keys | None = None

    def positions(self, file: DataFile) -> Positions:
        """The rows of the file that have one of the keys and are not deleted yet; their keys are not searched
        for again."""
        if self._removed.num_rows == 0 or not self._range.meets(self._storage, file, self._table.key[0]):
            return NONE
        if not self.indexed:
            return self._compared(file)
        if self._wanted is None:
            self._wanted = hash_keys(self._removed)
        keys = self._removed.schema
        rows, places = open_keys(self._storage, file, keys).find(self._wanted)
        if file.deleted and len(rows):
            for old in deleted_in(self._storage.address, self._state.deletes, file.location):
                alive = ~np.isin(rows, old)
                rows, places = rows[alive], places[alive]
        self._wanted = self._wanted.without(places)
        return np.sort(rows)

    def _compared(self, file: DataFile) -> Positions:
        """The same by reading the file's keys, for a key that cannot be hashed."""
        with self._storage.open(file.location) as stream:
            keys = pq.ParquetFile(stream).read(columns=list(self._table.key), use_threads=False)
        keys = keys.select(self._table.key).cast(self._removed.schema)
        found = _matching(keys, self._removed)
        return np.flatnonzero(found.to_numpy(zero_copy_only=False))


@dataclass(frozen=True, slots=True)
class _Range:
    """Values of the key's first column, sorted; `anything`: one of them cannot be compared."""

    values: Sequence[Any]
    anything: bool

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "_Range":
        try:
            values = column.unique().to_pylist()
            return cls(sorted(value for value in values if value == value), any(v != v for v in values))
        except (OverflowError, ValueError):  # a date outside of Python's range
            return cls((), True)

    def meets(self, storage: Storage, file: DataFile, column: str) -> bool:
        """Whether one of the values is in the range of a row group."""
        if self.anything:
            return True
        try:
            for bounds in _bounds(storage.address, file.location, column):
                if bounds is None:
                    return True
                place = bisect_left(self.values, bounds[0])
                if place < len(self.values) and self.values[place] <= bounds[1]:
                    return True
        except (OverflowError, ValueError):
            return True
        return False


@lru_cache(maxsize=4096)
def _bounds(address: LakeAddress, location: str, column: str) -> list[tuple[Any, Any] | None]:
    """The smallest and greatest value of the column in each row group; None if unknown. Cached, because a
    file never changes."""
    with Storage.of(address).open(location) as stream:
        parquet = pq.ParquetFile(stream)
    # Not the place in the Arrow schema: a struct has a column for each of its fields.
    leaves = (parquet.schema.column(place) for place in range(len(parquet.schema)))
    place = next(place for place, leaf in enumerate(leaves) if leaf.path == leaf.name == column)
    groups = (parquet.metadata.row_group(n).column(place) for n in range(parquet.metadata.num_row_groups))
    return [_bounds_of(group) for group in groups]


def _bounds_of(column: pq.ColumnChunkMetaData) -> tuple[Any, Any] | None:
    statistics = column.statistics
    if statistics is None or not statistics.has_min_max:
        return None
    try:
        return statistics.min, statistics.max
    except (OverflowError, ValueError):
        return None


def _matching(keys: pa.Table, among: pa.Table) -> pa.Array:
    """A mask: for each of the keys, whether it is in `among`. Both have the key's columns."""
    keys, among = _as_compared(keys), _as_compared(among)
    if keys.num_columns == 1:
        return pc.is_in(keys.column(0).combine_chunks(), value_set=among.column(0).combine_chunks())
    names = keys.column_names
    numbered = keys.append_column(ROW_NUMBER, pa.array(range(keys.num_rows), pa.int64()))
    matched = numbered.join(among.group_by(names).aggregate([]), names, join_type="left semi")
    return pc.is_in(numbered[ROW_NUMBER].combine_chunks(), value_set=matched[ROW_NUMBER].combine_chunks())


def _as_compared(keys: pa.Table) -> pa.Table:
    """Replace -0 by 0, and any NaN by the same: in Postgres they are equal, in Arrow they differ by bits."""
    for place, column in enumerate(keys.schema):
        if pa.types.is_floating(column.type):
            values = pc.add(keys.column(place), pa.scalar(0, column.type))
            values = pc.if_else(pc.is_nan(values), pa.scalar(math.nan, column.type), values)
            keys = keys.set_column(place, column, values)
    return keys
