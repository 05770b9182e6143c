"""An index of a data file's keys, which finds the rows of a few keys without reading the file.

    TABLE/keys/STEM.keys     header  │ hashes, sorted │ second hashes │ row numbers

A key is 128 bits: a single integer is its own first half, other keys are hashed by Polars. The lookup is a
binary search in a memory-mapped array. An index is written when an epoch first searches its data file, and
again if it is missing or belongs to another file, another key or another version of the hash function. The
indexes of a lake in a bucket are stored beside the file of its catalog. If its catalog is a database, they
are not stored: the keys are read for each epoch.
"""

import json
import os
import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.table.deletes import Positions
from lakehouse.table.epoch import DataFile
from lakehouse.table.storage import Storage
from ridelake.settings import S3, LakeAddress

Hashes = npt.NDArray[np.uint64]

HEADER_BYTES = 1024
SEEDS = (0x7269646573, 0x6C616B65)


@dataclass(frozen=True, slots=True)
class Keys:
    """Hashes of keys, sorted by `high`. `rows`: where each was in the table that was hashed. `low`: the other
    64 bits; None if `high` is the key itself."""

    high: Hashes
    low: Hashes | None
    rows: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.high)

    def without(self, places: npt.NDArray[np.int64]) -> "Keys":
        mask = np.ones(len(self.high), bool)
        mask[places] = False
        return Keys(self.high[mask], None if self.low is None else self.low[mask], self.rows[mask])

    def find(self, wanted: "Keys") -> tuple[Positions, npt.NDArray[np.int64]]:
        """The rows that have one of the wanted keys, and the place of each key in `wanted`."""
        if not len(self):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        first, end = wanted.high.searchsorted(self.high[0]), wanted.high.searchsorted(self.high[-1], "right")
        sought = wanted.high[first:end]
        begins = np.searchsorted(self.high, sought)
        counts = np.searchsorted(self.high, sought, "right") - begins
        places = first + np.repeat(np.arange(len(sought)), counts)
        # Equal first halves are adjacent; each of them is compared.
        offsets = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = begins[places - first] + offsets
        if self.low is not None and wanted.low is not None:
            same = self.low[at] == wanted.low[places]
            places, at = places[same], at[same]
        return self.rows[at].astype(np.int64), places


def hash_keys(keys: pa.Table) -> Keys:
    """The hashes of the rows of `keys`, which has the columns of the key."""
    low: Hashes | None = None
    if _is_integer(keys.schema):
        high = keys.column(0).to_numpy().astype(np.int64).view(np.uint64)
    else:
        import polars as pl  # imported here, because it takes 0.4 s to import

        frame = pl.from_arrow(_comparable(keys))
        assert isinstance(frame, pl.DataFrame)
        high, low = (frame.hash_rows(seed).to_numpy() for seed in SEEDS)
    order = np.arange(len(high)) if (high[1:] >= high[:-1]).all() else np.argsort(high)
    return Keys(high[order], None if low is None else low[order], order.astype(np.uint32))


def can_be_indexed(keys: pa.Schema) -> bool:
    """Whether equal keys have equal hashes: not for floating-point numbers."""
    return not any(pa.types.is_floating(field.type) for field in keys)


def open_keys(storage: Storage, file: DataFile, keys: pa.Schema) -> Keys:
    """The index of the data file, which is written first if necessary. `keys`: the key's columns."""
    path, header = _path(storage, file), _header(file, keys)
    if path and (found := _mapped(path, header, file.rows)) is not None:
        return found
    with storage.open(file.location) as stream:
        columns = pq.ParquetFile(stream).read(columns=keys.names, use_threads=False)
    hashed = hash_keys(columns.select(keys.names).cast(keys))
    if path:
        with suppress(OSError):  # a reader of the lake may not write to it
            _write(path, header, hashed)
    return hashed


def index_location(data_file: str) -> str:
    """The location of the index of a data file in a folder."""
    folder, _, name = data_file.rsplit("/", 2)
    return f"{folder}/keys/{name.removesuffix('.parquet')}.keys"


def remove_local_indexes(address: LakeAddress, sha256: Collection[str]) -> None:
    """Remove the indexes of a remote lake, except those of data files with these checksums."""
    if (folder := _local_folder(address)) is not None:
        for path in folder.glob("*"):
            if path.suffix != ".keys" or path.stem not in sha256:
                path.unlink(missing_ok=True)


def _local_folder(address: LakeAddress) -> Path | None:
    """The folder of the indexes of a remote lake, beside the file of its catalog."""
    return address.catalog_file.with_suffix(".keys") if address.catalog_file else None


def _path(storage: Storage, file: DataFile) -> Path | None:
    if not file.location.startswith(S3):
        return Path(index_location(file.location))
    folder = _local_folder(storage.address)
    return folder / f"{file.sha256}.keys" if folder else None


def _header(file: DataFile, keys: pa.Schema) -> bytes:
    """What the index belongs to."""
    types = [str(field.type) for field in keys]
    hashed = "" if _is_integer(keys) else f"polars {version('polars')}"
    text = json.dumps({"sha256": file.sha256, "rows": file.rows, "types": types, "hash": hashed})
    return text.encode()[:HEADER_BYTES].ljust(HEADER_BYTES)


def _mapped(path: Path, header: bytes, rows: int) -> Keys | None:
    try:
        with path.open("rb") as file:
            if file.read(HEADER_BYTES) != header:
                return None
            wide = 8 * rows
            halves = (os.fstat(file.fileno()).st_size - HEADER_BYTES - 4 * rows) // wide if rows else 1
            content = np.memmap(file, np.uint8, "r", HEADER_BYTES) if rows else np.zeros(0, np.uint8)
    except OSError:
        return None
    if halves not in (1, 2) or len(content) != halves * wide + 4 * rows:
        return None
    high, low = content[:wide].view(np.uint64), content[wide : halves * wide].view(np.uint64)
    return Keys(high, low if halves == 2 else None, content[halves * wide :].view(np.uint32))


def _write(path: Path, header: bytes, keys: Keys) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{secrets.token_hex(4)}")  # unique, if two processes write it
    try:
        with draft.open("wb") as file:
            for part in (header, keys.high, keys.low, keys.rows):
                if part is not None:
                    file.write(memoryview(part))  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _is_integer(keys: pa.Schema) -> bool:
    return len(keys) == 1 and pa.types.is_integer(keys.field(0).type)


def _comparable(keys: pa.Table) -> pa.Table:
    """Decimals as text, because their hash depends on the precision of the column."""
    for place, field in enumerate(keys.schema):
        if pa.types.is_decimal(field.type):
            keys = keys.set_column(place, field.name, pc.cast(keys.column(place), pa.string()))
    return keys
