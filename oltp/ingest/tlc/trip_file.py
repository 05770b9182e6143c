"""Read a trip file, CSV or Parquet, as batches of raw values. The first bytes decide the format.

The files are those of the New York City Taxi and Limousine Commission (TLC). The names of the columns depend
on the year (`Trip_Pickup_DateTime`, `pickup_datetime`, `tpep_pickup_datetime`), on the kind of trip and on
the program that exported the file. They are compared without case, blanks and underscores.

Trip files have no line breaks inside quotes: every line is one row, and an unmatched quotation mark affects
only its own line. Line ends are normalized before parsing: Polars reads a file with CR line ends as 0 rows
and 533 columns, and DuckDB refuses a file with two kinds.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ridelake.errors import BadInput, first_line


class TripKind(StrEnum):
    YELLOW = "yellow"  # taxis hailed in the street
    GREEN = "green"  # taxis of the outer boroughs
    HVFHV = "hvfhv"  # "high-volume for-hire vehicles": Uber, Lyft, Via, Juno


# Meaning → names, without case, blanks and underscores.
BOTH = {
    "pickup": ("tpeppickupdatetime", "lpeppickupdatetime", "pickupdatetime", "trippickupdatetime"),
    "dropoff": ("tpepdropoffdatetime", "lpepdropoffdatetime", "dropoffdatetime", "tripdropoffdatetime"),
    "pickup_zone": ("pulocationid", "pickuplocationid"),
    "dropoff_zone": ("dolocationid", "dropofflocationid"),
}
TAXI = BOTH | {
    "vendor": ("vendorid", "vendorname"),
    "miles": ("tripdistance",),
    "total": ("totalamount", "totalamt"),  # paid by the rider, including the tip (cash tips are not recorded)
    "tip": ("tipamount", "tipamt"),
}
HVFHV = BOTH | {
    "vendor": ("hvfhslicensenum",),
    "request": ("requestdatetime",),
    "miles": ("tripmiles",),
    "base_fare": ("basepassengerfare",),
    "tolls": ("tolls",),
    "bcf": ("bcf",),  # Black Car Fund
    "sales_tax": ("salestax",),
    "congestion_surcharge": ("congestionsurcharge",),
    "airport_fee": ("airportfee",),
    "cbd_congestion_fee": ("cbdcongestionfee",),  # since 2025
    "tip": ("tips",),
}
# Columns that a file need not have: fees that did not exist yet, a vendor that is not recorded.
OPTIONAL = {
    "vendor", "request", "tolls", "bcf", "sales_tax", "congestion_surcharge", "airport_fee",
    "cbd_congestion_fee",
}  # fmt: skip

ONLY_IN_HVFHV = {"hvfhslicensenum", "basepassengerfare", "tripmiles", "driverpay"}
ONLY_IN_GREEN = {"lpeppickupdatetime", "lpepdropoffdatetime", "triptype", "ehailfee"}

KNOWN = (
    "Known are the TLC's yellow and green files (pick-up and drop-off time, PULocationID, DOLocationID, "
    "trip_distance, total_amount, tip_amount) and HVFHV (trip_miles, base_passenger_fare, tips instead)"
)


@dataclass(frozen=True, slots=True)
class TripLayout:
    """The kind of the trips in a file, and the column of each meaning. `time_format`: the format of its
    times, if the user has given one. `date_order`: the format of dates with slashes, which the value
    `decided_by` decided."""

    kind: TripKind
    names: dict[str, str]  # meaning → the file's own name
    time_format: str | None = None
    date_order: str | None = None
    decided_by: str = ""


def detect_layout(path: Path, columns: Sequence[str]) -> TripLayout:
    """The layout of a file with these columns. Raises BadInput if they are not those of a trip file."""
    normalized: dict[str, list[str]] = {}
    for column in columns:
        normalized.setdefault(_normalized_name(column), []).append(column)

    if ONLY_IN_HVFHV & normalized.keys():
        kind, spellings = TripKind.HVFHV, HVFHV
    else:
        kind, spellings = TripKind.GREEN if ONLY_IN_GREEN & normalized.keys() else TripKind.YELLOW, TAXI

    found = {
        meaning: [name for spelling in known for name in normalized.get(spelling, [])]
        for meaning, known in spellings.items()
    }
    missing = [meaning for meaning, names in found.items() if not names and meaning not in OPTIONAL]
    if missing:
        raise BadInput(_layout_error(path, columns, normalized, kind, missing))
    for names in found.values():
        if len(names) > 1:
            raise BadInput(
                f"{path}: the columns {' and '.join(names)} have the same meaning; remove all but one of them"
            )
    return TripLayout(kind, {meaning: names[0] for meaning, names in found.items() if names})


def _normalized_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _layout_error(
    path: Path, columns: Sequence[str], normalized: dict[str, list[str]], kind: TripKind, missing: list[str]
) -> str:
    spellings = HVFHV if kind is TripKind.HVFHV else TAXI
    wanted = [_written_out(spellings[meaning][0]) for meaning in missing]
    if {"startlon", "pickuplongitude"} & normalized.keys():
        return f"{path} has coordinates instead of zones, as TLC files before July 2016 had: load a later one"
    if "dispatchingbasenum" in normalized:
        return (
            f"{path} has no {', '.join(wanted)} (FHV, or an early HVFHV file): "
            "load a fhvhv_tripdata Parquet file as the TLC publishes it today"
        )
    required = len(spellings) - len(OPTIONAL & spellings.keys())
    if len(missing) > required // 2:
        shown = ", ".join(columns[:8]) + (", …" if len(columns) > 8 else "")
        return f"{path} is not a trip file, columns {', '.join(wanted)} are missing; it has {shown}. {KNOWN}"
    return f"{path}: {kind} trips, but no column {', '.join(wanted)}; get the file as the TLC publishes it"


# The names in current files, for messages.
_TODAY = {
    "tpeppickupdatetime": "pickup_datetime", "tpepdropoffdatetime": "dropoff_datetime",
    "pulocationid": "PULocationID", "dolocationid": "DOLocationID", "tripdistance": "trip_distance",
    "totalamount": "total_amount", "tipamount": "tip_amount", "tripmiles": "trip_miles",
    "basepassengerfare": "base_passenger_fare",
}  # fmt: skip


def _written_out(spelling: str) -> str:
    return _TODAY.get(spelling, spelling)


# Rows in memory at a time. Large enough that the fixed cost of a batch is negligible, small enough that all
# columns of a batch (about 200 bytes per row, up to three copies) stay below 0.5 GB.
BATCH_ROWS = 500_000


@dataclass(frozen=True, slots=True)
class TripBatch:
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

    def batches(self, columns: Sequence[str]) -> Iterator[TripBatch]:
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
        return ParquetTripFile(path)
    if start.startswith(b"PK\x03\x04"):
        raise BadInput(f"{path} is a zip archive: unpack it and load the files in it")

    return CsvTripFile(path, gzipped=start.startswith(b"\x1f\x8b"))


def decompressed(source: io.BufferedReader, gzipped: bool) -> io.BufferedIOBase:
    """The uncompressed bytes of an open file."""
    return gzip.GzipFile(fileobj=source) if gzipped else source


CHUNK_BYTES = 32 << 20  # about 300,000 lines
LINE_BYTES_MAX = 1 << 20  # a longer line is not a trip


class CsvTripFile:
    def __init__(self, path: Path, *, gzipped: bool) -> None:
        self.path = path
        self._gzipped = gzipped
        header = next((lines for lines, _ in self._chunks(64 << 10)), b"").split(b"\n", 1)[0]
        if not header.strip():
            raise BadInput(f"{path} is empty: download it again")
        try:
            text = header.decode()
        except UnicodeDecodeError as error:
            raise BadInput(f"{path} is neither Parquet nor UTF-8 text: save it as CSV in UTF-8") from error
        self._separator = max(",;\t|", key=text.count)
        self.columns: Sequence[str] = [name.strip() for name in _fields(text, self._separator)]
        twice = {name for name in self.columns if self.columns.count(name) > 1}
        if twice:
            raise BadInput(
                f"{path} has two columns named {', '.join(map(repr, sorted(twice)))}: remove one of them"
            )

    def batches(self, columns: Sequence[str]) -> Iterator[TripBatch]:
        at_header = True
        for lines, position in self._chunks(CHUNK_BYTES):
            if at_header:
                lines = lines.split(b"\n", 1)[1]
                at_header = False
            if lines:
                rows, malformed = self._parse(lines, columns)
                yield TripBatch(rows, malformed, position)

    def _chunks(self, size: int) -> Iterator[tuple[bytes, int]]:
        """Complete lines that end in LF, without blank ones; and the position in the file after them."""
        rest, held, first = b"", b"", True
        try:
            with self.path.open("rb") as source, decompressed(source, self._gzipped) as unpacked:
                while block := unpacked.read(size):
                    if first:
                        block, first = self._text_start(block), False
                    block = held + block
                    # a CR at the end may be half of a CRLF
                    block, held = (block[:-1], b"\r") if block.endswith(b"\r") else (block, b"")
                    block = rest + block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
                    end = block.rfind(b"\n") + 1
                    lines, rest = block[:end], block[end:]
                    if len(rest) > LINE_BYTES_MAX:
                        raise BadInput(
                            f"{self.path} has no line ends, so it is not a CSV file: check the path"
                        )
                    if lines := _without_blank_lines(lines):
                        yield lines, source.tell()
                if lines := _without_blank_lines(rest + b"\n"):
                    yield lines, source.tell()
        except (EOFError, OSError, zlib.error) as error:
            raise BadInput(f"{self.path} is damaged or incomplete ({error}): download it again") from error

    def _text_start(self, block: bytes) -> bytes:
        if block.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in block[:4096]:
            raise BadInput(
                f"{self.path} is not Parquet and not UTF-8 text (UTF-16?): save it as CSV in UTF-8"
            )
        return block.removeprefix(b"\xef\xbb\xbf")

    def _parse(self, lines: bytes, columns: Sequence[str]) -> tuple[pl.DataFrame, pl.Series]:
        """These columns as text; and per line the number of its fields if it differs from the header's, or
        0."""
        if b'"' in lines:
            return self._parse_quoted(lines, columns)
        malformed = pl.Series(_malformed(lines, self._separator, len(self.columns)))
        # Numbers as names: Polars takes the number of columns from the first line, which may be truncated.
        header = self._separator.join(map(str, range(len(self.columns)))).encode() + b"\n"
        frame = pl.read_csv(
            io.BytesIO(header + lines),
            columns=[str(self.columns.index(name)) for name in columns],
            infer_schema=False,
            separator=self._separator,
            quote_char=None,
            truncate_ragged_lines=True,
            encoding="utf8-lossy",  # invalid bytes affect only their own field
        )
        if frame.height != len(malformed):
            return self._parse_quoted(lines, columns)
        return frame.select(pl.col(str(self.columns.index(name))).alias(name) for name in columns), malformed

    def _parse_quoted(self, lines: bytes, wanted: Sequence[str]) -> tuple[pl.DataFrame, pl.Series]:
        """As `_parse`, line by line: five times slower, for files with quotation marks."""
        width = len(self.columns)
        rows = [_fields(line, self._separator) for line in lines.decode(errors="replace").split("\n")[:-1]]
        malformed = pl.Series(
            [len(row) if len(row) < width or any(row[width:]) else 0 for row in rows], dtype=pl.Int64
        )
        columns = list(zip_longest(*(row[:width] for row in rows)))[:width]
        columns += [(None,) * len(rows)] * (width - len(columns))
        schema = dict.fromkeys(self.columns, pl.String)
        frame = pl.DataFrame(dict(zip(self.columns, columns, strict=True)), schema=schema)
        return frame.select(wanted), malformed


def _without_blank_lines(lines: bytes) -> bytes:
    if b"\n\n" in lines:
        lines = re.sub(rb"\n{2,}", b"\n", lines)
    return lines.lstrip(b"\n")


def _fields(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return [line]  # a field of a megabyte: malformed, shown unchanged


def _malformed(lines: bytes, separator: str, width: int) -> NDArray[np.int64]:
    """For each line, the number of its fields if there are fewer than `width`, or more that are not empty;
    otherwise 0. The lines contain no quotes.

    (In the TLC's files of 2016 each row ends with two empty fields that are not in the header.)"""
    text = np.frombuffer(lines, dtype=np.uint8)
    separators = np.flatnonzero(text == ord(separator))
    ends = np.flatnonzero(text == ord("\n"))
    until = np.searchsorted(separators, ends)
    before = np.concatenate([[0], until[:-1]])  # separators in the lines above
    fields = until - before + 1
    malformed: NDArray[np.bool_] = fields < width
    (longer,) = np.nonzero(fields > width)
    surplus_bytes = ends[longer] - separators[before[longer] + width - 1]
    malformed[longer] = surplus_bytes != fields[longer] - width  # more than the separators themselves
    return np.where(malformed, fields, 0)


class ParquetTripFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = path.stat().st_size
        with _damage_named(path), pq.ParquetFile(path) as source:
            self.columns: Sequence[str] = source.schema_arrow.names
            self._rows = source.metadata.num_rows

    def batches(self, columns: Sequence[str]) -> Iterator[TripBatch]:
        rows_read = 0
        with _damage_named(self.path), pq.ParquetFile(self.path) as source:
            # pre_buffer would keep whole row groups in memory, and some files have only one
            for batch in source.iter_batches(BATCH_ROWS, columns=list(columns)):
                rows_read += batch.num_rows
                frame = pl.from_arrow(pa.Table.from_batches([batch]))
                assert isinstance(frame, pl.DataFrame)
                yield TripBatch(frame.select(columns), None, self._bytes * rows_read // max(1, self._rows))


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Translate Arrow's errors for a damaged file. Raises BadInput with Arrow's message if the file is
    damaged."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = first_line(error)[:200]
        raise BadInput(f"{path} is a damaged Parquet file ({reason}): download it again") from error
