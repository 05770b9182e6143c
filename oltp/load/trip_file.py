"""A file as rows of raw values, whatever it is inside. Its first bytes decide, never its name."""

import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from ridelake.errors import BadInput

# Rows in memory at a time. Large enough that the work per batch is lost in it, small enough that all
# columns of a batch (some 200 bytes a row, thrice in the worst moment) stay below half a gigabyte.
BATCH_ROWS = 500_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows, in the order of the file. `malformed`: how many fields a line has, where the header has
    another number, or else 0. `bytes_read`: how far into the file we are, for the progress."""

    rows: pl.DataFrame
    malformed: pl.Series | None
    bytes_read: int


class TripFile(Protocol):
    """A file that can be read from its start as often as wanted."""

    @property
    def path(self) -> Path: ...

    @property
    def columns(self) -> Sequence[str]: ...

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """These columns of all rows. Raises BadInput where the file turns out to be damaged."""
        ...


def open_trip_file(path: Path) -> TripFile:
    """Raises BadInput if the path is not a readable file of Parquet or text."""
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a folder: name the files in it, {path}/*.parquet say")
        if not path.exists():
            if str(path).startswith(("http:/", "https:/", "s3:/")):
                raise BadInput(f"{path} is not on this machine: download it and load the file")
            raise BadInput(f"{path} does not exist: correct the path")
        if not path.is_file():
            raise BadInput(f"{path} is not a file that can be read twice: save it to disk first")
        with path.open("rb") as source:
            start = source.read(4096)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; see its owner and permissions") from error
    if not start:
        raise BadInput(f"{path} is empty: download it again")
    if start.startswith(b"PAR1"):
        from oltp.load.parquet_file import ParquetFile

        return ParquetFile(path)
    if start.startswith(b"PK\x03\x04"):
        raise BadInput(f"{path} is a zip archive: unpack it and load what is inside")

    from oltp.load.csv_file import CsvFile

    return CsvFile(path, gzipped=start.startswith(b"\x1f\x8b"))


def plain(source: io.BufferedReader, gzipped: bool) -> io.BufferedIOBase:
    """The bytes of an open file, unpacked."""
    return gzip.GzipFile(fileobj=source) if gzipped else source
