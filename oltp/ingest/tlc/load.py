"""Check trip files, then load their valid rows and quarantine the others.

The quarantine is one Parquet file for each input file. It has all columns of the input, unchanged, and before
them: `reason`; the `column` and the `value` that caused the rejection, and what was `expected`; `file` and
`row` (from 1, without the header). Its name contains a hash of the path of the input file, so loading that
file again replaces it.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.ingest.history import known_requests, store_trips, vacuum_and_analyze
from oltp.ingest.tlc.rules import (
    CODE,
    GOOD,
    VERDICT_SCHEMA,
    RejectReason,
    add_examples,
    as_trips,
    explain,
    format_explanations,
    judge_alone,
    judge_together,
)
from oltp.ingest.tlc.times import TIMES, Months, check_time_format, format_months, months_of, with_date_order
from oltp.ingest.tlc.trip_file import TripBatch, TripFile, TripLayout, detect_layout, open_trip_file
from oltp.ingest.tlc.values import check_types, read_values, used_columns
from oltp.store import Store, transaction
from ridelake.errors import BadInput, OutOfResources, RidelakeError
from ridelake.progress import Progress, progress
from ridelake.resources import describe_shortage

OURS = ("reason", "column", "value", "expected", "file", "row")


class Quarantine:
    """Writes rows to a temporary file. `finish` completes it, `publish` renames it; without `publish` it is
    deleted at the end."""

    def __init__(self, folder: Path, source: Path) -> None:
        mark = hashlib.blake2b(str(source.resolve()).encode(), digest_size=4).hexdigest()
        self.path = folder / f"{source.name.split('.')[0]}-{mark}.parquet"
        self.rows = 0
        self._source = source
        # A random suffix, because a call may name a file twice.
        self._aside = self.path.with_suffix(f".{secrets.token_hex(4)}")
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
        with suppress(OSError):
            self._aside.unlink(missing_ok=True)

    def add(self, rows: pl.DataFrame, reason: pl.Series, why: pl.DataFrame, row: pl.Series) -> None:
        """Add rejected rows. `why`: the column, value and expected of each row."""
        if rows.is_empty():
            return
        clash = {name: f"{name}_of_file" for name in rows.columns if name in OURS}
        ours = {
            "reason": reason,
            **{name: why[name] for name in ("column", "value", "expected")},
            "file": pl.Series([str(self._source)]).new_from_index(0, rows.height),
            "row": row,
        }
        table = pl.concat([pl.DataFrame(ours), rows.rename(clash)], how="horizontal").to_arrow()
        try:
            if self._writer is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = pq.ParquetWriter(self._aside, table.schema, compression="zstd")
            self._writer.write_table(table.cast(self._writer.schema))
        except (OSError, pa.ArrowException) as error:
            raise _no_room(self.path, error) from error
        self.rows += rows.height

    def finish(self) -> None:
        """Complete the temporary file. After this, only the rename in `publish` can fail."""
        try:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        except (OSError, pa.ArrowException) as error:
            raise _no_room(self.path, error) from error

    def publish(self) -> Path | None:
        """Rename the file and return its path. If no row was rejected, delete an older file and return
        None."""
        try:
            if self.rows == 0:
                self.path.unlink(missing_ok=True)
                return None
            self._aside.replace(self.path)
        except OSError as error:
            raise _no_room(self.path, error) from error
        return self.path


def _no_room(path: Path, error: Exception) -> RidelakeError:
    if message := describe_shortage(error, path.parent, "--quarantine"):
        return OutOfResources(message)
    return RidelakeError(
        f"cannot write the rejected rows to {path} ({error}): choose another folder with --quarantine"
    )


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file of trips. `verdicts`: for each row 0, or the code of the reason for its rejection."""

    file: TripFile
    layout: TripLayout
    months: Months
    verdicts: pl.Series

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def rows(self) -> int:
        return len(self.verdicts)

    @property
    def period(self) -> str:
        return format_months(self.months)


def check_files(
    paths: Sequence[Path], now: datetime | None = None, *, time_format: str | None = None
) -> list[CheckedFile]:
    """Check all files; nothing is stored. `time_format`: the strptime format of times in text. Raises
    BadInput for the first file that is missing, damaged or not a trip file, and RidelakeError if no row of a
    file can be read."""
    moment = now or datetime.now(UTC)
    files = [open_trip_file(path) for path in paths]
    # The layouts of all files, before one of them is read.
    layouts = [detect_layout(file.path, file.columns) for file in files]
    if time_format is not None:
        layouts = [replace(layout, time_format=check_time_format(time_format)) for layout in layouts]
    with progress("checking, bytes", sum(file.path.stat().st_size for file in files)) as shown:
        return [_check(file, layout, moment, shown) for file, layout in zip(files, layouts, strict=True)]


def _check(file: TripFile, layout: TripLayout, now: datetime, shown: Progress) -> CheckedFile:
    judged, position = [pl.DataFrame(schema=VERDICT_SCHEMA)], 0
    for batch in file.batches(used_columns(layout)):
        check_types(file, layout, batch.rows)
        layout = with_date_order(file, layout, batch.rows)
        judged.append(judge_alone(read_values(batch, layout), now))
        shown.advance(batch.bytes_read - position)
        position = batch.bytes_read
    rows = pl.concat(judged)
    if rows.is_empty():
        raise BadInput(f"{file.path} has a header but no rows: download it again, or leave it out")
    months = months_of(file.path.name, rows["month"])
    verdicts = judge_together(rows, months)
    if (verdicts == CODE[RejectReason.UNREADABLE]).all():
        raise _all_unreadable(file, layout, rows.height)
    return CheckedFile(file, layout, months, verdicts)


def _all_unreadable(file: TripFile, layout: TripLayout, rows: int) -> RidelakeError:
    batch = next(file.batches(file.columns))
    first = TripBatch(batch.rows.head(1), None if batch.malformed is None else batch.malformed.head(1), 0)
    (reason,) = format_explanations(explain(first, layout, pl.Series([str(RejectReason.UNREADABLE)]), ""))
    times = [layout.names[one] for one in TIMES if one in layout.names]
    hint = ", or give the format of its times with --time-format" if any(map(reason.count, times)) else ""
    return RidelakeError(
        f"cannot read any of the {rows:,} rows of {file.path}: in row 1 {reason}; correct the file{hint}"
    )


NAMES = {code: str(reason) for reason, code in CODE.items()}


@dataclass(frozen=True, slots=True)
class FileReport:
    """read = loaded + sum(rejected). `quarantine`: the file with the rejected rows, or None. `examples`: for
    each reason, texts about a few rows of the file."""

    file: Path
    kind: str
    period: str
    read: int
    loaded: int
    rejected: dict[str, int]
    quarantine: Path | None
    examples: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of one call. A row that is already in the store counts as rejected, for that reason."""

    files: list[FileReport]
    seconds: float

    @property
    def read(self) -> int:
        return sum(file.read for file in self.files)

    @property
    def loaded(self) -> int:
        return sum(file.loaded for file in self.files)

    @property
    def rejected(self) -> dict[str, int]:
        counts = sum((Counter(file.rejected) for file in self.files), Counter[str]())
        return {str(reason): counts[reason] for reason in RejectReason if counts[reason]}

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "read": self.read,
            "loaded": self.loaded,
            "rejected": self.rejected,
            "seconds": round(self.seconds, 3),
            "files": [
                asdict(file) | {"file": str(file.file), "period": file.period or None} for file in self.files
            ],
        }


def load_files(
    store: Store, checked: Sequence[CheckedFile], quarantine: Path, *, seed: int = 1
) -> LoadReport:
    """Store the accepted rows of all files in one transaction. After the commit, publish the rejected rows in
    the folder `quarantine`. `seed`: for the choice of riders and drivers. Raises BadInput if a file has
    changed."""
    started = perf_counter()
    with ExitStack() as stack:
        asides = [stack.enter_context(Quarantine(quarantine, file.path)) for file in checked]
        connection = stack.enter_context(store.connect())
        shown = stack.enter_context(progress("loading, rows", sum(file.rows for file in checked)))
        with transaction(connection):
            counts = [
                _load(connection, file, aside, seed, shown)
                for file, aside in zip(checked, asides, strict=True)
            ]
        places = [aside.publish() for aside in asides]
        shown.step("VACUUM and ANALYZE")
        vacuum_and_analyze(connection)
    reports = [
        FileReport(file.path, file.layout.kind, file.period, file.rows, loaded, rejected, place, examples)
        for file, (loaded, rejected, examples), place in zip(checked, counts, places, strict=True)
    ]
    return LoadReport(reports, perf_counter() - started)


def _load(
    connection: Connection[TupleRow], checked: CheckedFile, aside: Quarantine, seed: int, shown: Progress
) -> tuple[int, dict[str, int], dict[str, list[str]]]:
    """Load one file. Returns the number of loaded rows, the rejected ones by reason, and examples of
    these."""
    rows_read, loaded, there = 0, 0, 0
    examples: dict[str, list[str]] = {}
    for batch in checked.file.batches(checked.file.columns):
        verdict = checked.verdicts.slice(rows_read, batch.rows.height)
        if len(verdict) < batch.rows.height:
            raise _changed(checked)
        good = verdict == GOOD
        trips = as_trips(read_values(batch, checked.layout).filter(good))
        known = known_requests(connection, trips["request_id"])
        new = trips.filter(~pl.col("request_id").is_in(known.implode()))
        there += trips.height - new.height
        if not new.is_empty():
            loaded += store_trips(connection, new, seed=seed)

        row = pl.int_range(rows_read + 1, rows_read + 1 + batch.rows.height, eager=True)
        why = verdict.filter(~good).replace_strict(NAMES, return_dtype=pl.String)
        bad = TripBatch(
            batch.rows.filter(~good), None if batch.malformed is None else batch.malformed.filter(~good), 0
        )
        explained = explain(bad, checked.layout, why, checked.period)
        aside.add(bad.rows, why, explained, row.filter(~good))
        add_examples(examples, why, explained, row.filter(~good))
        rows_read += batch.rows.height
        shown.advance(batch.rows.height)
    if rows_read != checked.rows:
        raise _changed(checked)
    aside.finish()

    counts = Counter(
        {NAMES[code]: count for code, count in checked.verdicts.value_counts().rows() if code != GOOD}
    )
    counts[RejectReason.ALREADY_LOADED] = there
    return loaded, {str(reason): counts[reason] for reason in RejectReason if counts[reason]}, examples


def _changed(checked: CheckedFile) -> BadInput:
    return BadInput(f"{checked.path} changed while it was read: load it again when it is complete")
