"""The first pass: reads every file of the call to its end, and decides about each row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from oltp.load.explanation import explain, in_words
from oltp.load.period import Months, format_months, months_of
from oltp.load.rules import CODE, JUDGED, Reason, judge_alone, judge_together
from oltp.load.time_forms import TIMES, check_time_format, with_date_order
from oltp.load.tlc import Layout, recognise
from oltp.load.trip_file import Batch, TripFile, open_trip_file
from oltp.load.values import check_types, read_values, used_columns
from ridelake.errors import BadInput, RidelakeError
from ridelake.progress import Progress, progress


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file of trips. `verdicts`: for each row 0, or the code of the reason for its rejection."""

    file: TripFile
    layout: Layout
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
    layouts = [recognise(file.path, file.columns) for file in files]
    if time_format is not None:
        layouts = [replace(layout, time_format=check_time_format(time_format)) for layout in layouts]
    with progress("checking, bytes", sum(file.path.stat().st_size for file in files)) as shown:
        return [_check(file, layout, moment, shown) for file, layout in zip(files, layouts, strict=True)]


def _check(file: TripFile, layout: Layout, now: datetime, shown: Progress) -> CheckedFile:
    judged, position = [pl.DataFrame(schema=JUDGED)], 0
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
    if (verdicts == CODE[Reason.UNREADABLE]).all():
        raise _all_unreadable(file, layout, rows.height)
    return CheckedFile(file, layout, months, verdicts)


def _all_unreadable(file: TripFile, layout: Layout, rows: int) -> RidelakeError:
    batch = next(file.batches(file.columns))
    first = Batch(batch.rows.head(1), None if batch.malformed is None else batch.malformed.head(1), 0)
    (reason,) = in_words(explain(first, layout, pl.Series([str(Reason.UNREADABLE)]), ""))
    times = [layout.names[one] for one in TIMES if one in layout.names]
    hint = ", or give the format of its times with --time-format" if any(map(reason.count, times)) else ""
    return RidelakeError(
        f"cannot read any of the {rows:,} rows of {file.path}: in row 1 {reason}; correct the file{hint}"
    )
