"""A trip file as rows of raw values. Its first bytes decide the format, not its name."""

import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from ridelake.errors import BadInput

# Rows in memory at a time. Large enough that the fixed cost of a batch is negligible, small enough that all
# columns of a batch (about 200 bytes per row, up to three copies) stay below 0.5 GB.
BATCH_ROWS = 500_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows, in the order of the file. `malformed`: the number of fields of a line if it differs from the
    header's, otherwise 0. `bytes_read`: the position in the file, for the progress line."""

    rows: pl.DataFrame
    malformed: pl.Series | None
    bytes_read: int


class TripFile(Protocol):
    """A file that can be read repeatedly from its start."""

    @property
    def path(self) -> Path: ...

    @property
    def columns(self) -> Sequence[str]: ...

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """These columns of all rows. Raises BadInput if the file is damaged."""
        ...


def open_trip_file(path: Path) -> TripFile:
    """Open a Parquet or text file. Raises BadInput if the path is not a readable file of these formats."""
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a folder: name the files in it, such as {path}/*.parquet")
        if not path.exists():
            if str(path).startswith(("http:/", "https:/", "s3:/")):
                raise BadInput(f"{path} is not a local file: download it and load the file")
            raise BadInput(f"{path} does not exist: correct the path")
        if not path.is_file():
            raise BadInput(
                f"{path} cannot be read twice, because it is not a regular file: save it to disk first"
            )
        with path.open("rb") as source:
            start = source.read(4096)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; check its owner and permissions") from error
    if not start:
        raise BadInput(f"{path} is empty: download it again")
    if start.startswith(b"PAR1"):
        from oltp.load.parquet_file import ParquetFile

        return ParquetFile(path)
    if start.startswith(b"PK\x03\x04"):
        raise BadInput(f"{path} is a zip archive: unpack it and load the files in it")

    from oltp.load.csv_file import CsvFile

    return CsvFile(path, gzipped=start.startswith(b"\x1f\x8b"))


def plain(source: io.BufferedReader, gzipped: bool) -> io.BufferedIOBase:
    """The uncompressed bytes of an open file."""
    return gzip.GzipFile(fileobj=source) if gzipped else source
