"""Deleted rows of data files: Iceberg v2 position delete files, and how a file is read without these rows.

    data file            rows 0 1 2 3 4 5 …
    delete file          (file_path, pos): pairs of a data file's location and a row number

A changed or deleted row stays in its data file, and an epoch records its position in a new delete file. The
current version of a changed row is in a newer data file. A delete file may also have positions of data files
that the table no longer has; they have no effect.

https://iceberg.apache.org/spec/#position-delete-files
"""

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.table.epoch import DataFile, DeleteFile, TableState
from lakehouse.table.s3 import open_file
from lakehouse.table.storage import Storage
from ridelake.settings import LakeAddress

Positions = npt.NDArray[np.int64]
"""Sorted row numbers of one data file, from 0."""

# A name for a column of row numbers beside the columns of a table, whose names have at most 63 bytes.
ROW_NUMBER = "row number".ljust(64)

NONE: Positions = np.zeros(0, np.int64)
NONE.setflags(write=False)

FILE_PATH_ID, POSITION_ID = 2147483546, 2147483545
SCHEMA = pa.schema(
    [
        pa.field("file_path", pa.string(), False, {"PARQUET:field_id": str(FILE_PATH_ID)}),
        pa.field("pos", pa.int64(), False, {"PARQUET:field_id": str(POSITION_ID)}),
    ]
)

# A reader opens all delete files of a table. If this number of them have about the same size, they are
# merged, so a position is rewritten once per magnitude.
MERGE_FILES = 8
MAGNITUDE_BITS = 3

# Larger delete files are read again each time, so that a process that syncs for long uses at most 64 MB.
CACHED_ROWS_MAX = 65_536


def write_deletes(storage: Storage, stem: str, marked: Mapping[str, Positions]) -> DeleteFile:
    """Write the positions by location of a data file as one file, `stem`-…-deletes.parquet."""
    location = f"{stem}-{secrets.token_hex(4)}-deletes.parquet"
    paths = sorted(marked)
    rows = pa.table(
        [
            pa.DictionaryArray.from_arrays(
                np.repeat(np.arange(len(paths), dtype=np.int32), [len(marked[path]) for path in paths]),
                pa.array(paths, pa.string()),
            ).cast(pa.string()),
            pa.array(np.concatenate([NONE, *(np.sort(marked[path]) for path in paths)])),
        ],
        schema=SCHEMA,
    )
    with storage.create(location) as file:
        pq.write_table(
            rows, file, compression="zstd", use_dictionary=["file_path"],
            column_encoding={"pos": "DELTA_BINARY_PACKED"},
        )  # fmt: skip
    size, sha256 = storage.bytes_and_sha256(location)
    return DeleteFile(location, rows.num_rows, size, sha256)


def add_deletes(
    address: LakeAddress,
    storage: Storage,
    stem: str,
    files: Sequence[DataFile],
    deletes: Sequence[DeleteFile],
    marked: Mapping[str, Positions],
) -> tuple[DeleteFile, ...]:
    """The delete files of a table that now has the data files `files`: `deletes` and one with the positions
    `marked`, by location of a data file. Delete files of about the same size are merged. `address`: the lake;
    `storage`, `stem`: where the new file is written."""
    if not any(file.deleted for file in files):
        return ()
    if not marked:
        return tuple(deletes)
    merged = _to_merge(deletes, sum(map(len, marked.values())))
    found = read_deletes(address, merged)
    for location, positions in marked.items():
        found[location] = np.union1d(found.get(location, NONE), positions)
    new = write_deletes(storage, stem, _of(files, found))
    return (*(file for file in deletes if file not in merged), new)


def merge_deletes(
    address: LakeAddress,
    storage: Storage,
    stem: str,
    files: Sequence[DataFile],
    deletes: Sequence[DeleteFile],
    merged: Sequence[DeleteFile],
) -> tuple[DeleteFile, ...]:
    """The delete files of a table that now has the data files `files`: `deletes`, of which `merged` are
    replaced by one file."""
    if not any(file.deleted for file in files):
        return ()
    others = tuple(file for file in deletes if file not in merged)
    positions = _of(files, read_deletes(address, merged))
    return (*others, write_deletes(storage, stem, positions)) if positions else others


def _of(files: Sequence[DataFile], positions: Mapping[str, Positions]) -> dict[str, Positions]:
    """The positions in these files only: the table may no longer have the other files."""
    return {file.location: positions[file.location] for file in files if file.location in positions}


def _to_merge(deletes: Sequence[DeleteFile], added: int) -> list[DeleteFile]:
    """The delete files to merge with `added` new positions: all files up to the greatest magnitude that has
    MERGE_FILES files."""
    counts = Counter([_magnitude(added), *(_magnitude(file.rows) for file in deletes)])
    full = max((magnitude for magnitude, count in counts.items() if count >= MERGE_FILES), default=-1)
    return [file for file in deletes if _magnitude(file.rows) <= full]


def _magnitude(rows: int) -> int:
    return rows.bit_length() // MAGNITUDE_BITS


def read_deletes(address: LakeAddress, deletes: Iterable[DeleteFile]) -> dict[str, Positions]:
    """The deleted rows by location of the data file. Files that are not in `address` are local files of an
    overlay."""
    found: dict[str, list[Positions]] = {}
    for file in deletes:
        for location, positions in _read(address, file).items():
            found.setdefault(location, []).append(positions)
    return {
        location: parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))
        for location, parts in found.items()
    }


def deleted_rows(address: LakeAddress, table: TableState) -> dict[str, Positions]:
    """The deleted rows of each data file of the table that has any, by its location."""
    if not table.deletes:
        return {}
    found = read_deletes(address, table.deletes)
    return {file.location: found[file.location] for file in table.files if file.deleted}


def _read(address: LakeAddress, file: DeleteFile) -> Mapping[str, Positions]:
    """The positions in a delete file by the location of the data file."""
    read = _read_cached if file.rows <= CACHED_ROWS_MAX else _read_file
    return read(address, file.location)


def _read_file(address: LakeAddress, location: str) -> Mapping[str, Positions]:
    """Paths are resolved by their end, because a lake can be moved or mounted elsewhere."""
    with open_file(address, location) as stream:
        rows = pq.ParquetFile(stream, read_dictionary=["file_path"]).read(use_threads=False).combine_chunks()
    if not rows.num_rows:
        return {}
    paths = rows["file_path"].chunk(0)
    codes, positions = paths.indices.to_numpy(), rows["pos"].to_numpy()
    begins = np.flatnonzero(np.diff(codes, prepend=-1))
    return {
        _moved(address, paths.dictionary[int(codes[begin])].as_py()): positions[begin:end]
        for begin, end in zip(begins, [*begins[1:], len(codes)], strict=True)
    }


_read_cached = lru_cache(maxsize=128)(_read_file)  # a delete file never changes


def _moved(address: LakeAddress, path: str) -> str:
    table, data, name = path.rsplit("/", 3)[1:]
    return address.join(table, data, name)


def deleted_in(address: LakeAddress, deletes: Iterable[DeleteFile], location: str) -> list[Positions]:
    """The deleted rows of one data file, from each delete file that has any."""
    found = (_read(address, file).get(location, NONE) for file in deletes)
    return [positions for positions in found if len(positions)]


def deleted_keys(
    address: LakeAddress, table: TableState, deleted: Mapping[str, Positions]
) -> dict[str, pa.Table]:
    """The keys of the deleted rows by location of the data file, for an engine that has no row numbers. A
    key is in a data file once."""
    found: dict[str, pa.Table] = {}
    for location, positions in deleted.items():
        with open_file(address, location) as stream:
            keys = pq.ParquetFile(stream).read(columns=list(table.key), use_threads=False)
        found[location] = keys.take(pa.array(positions)).combine_chunks()
    return found


def without_rows(rows: pa.Table, positions: Positions) -> pa.Table:
    """The rows of a data file without the rows at these positions."""
    if not len(positions):
        return rows
    alive = np.ones(rows.num_rows, bool)
    alive[positions] = False
    return rows.filter(pa.array(alive))
