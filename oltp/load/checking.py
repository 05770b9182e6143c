"""The first reading: every file of the call to its end, and a verdict for each row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from oltp.load.period import Months, months_of, told
from oltp.load.rules import JUDGED, judge_alone, judge_together
from oltp.load.tlc import Layout, recognise
from oltp.load.trip_file import TripFile, open_trip_file
from oltp.load.values import check_types, read_values, used_columns
from ridelake.errors import BadInput
from ridelake.progress import Progress, progress


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file of trips, and for each of its rows 0 or the code of the reason against it."""

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
        return told(self.months)


def check_files(paths: Sequence[Path], now: datetime | None = None) -> list[CheckedFile]:
    """Raises BadInput for the first file that is missing, broken or not trips; nothing is stored by then."""
    moment = now or datetime.now(UTC)
    files = [open_trip_file(path) for path in paths]
    layouts = [recognise(file.path, file.columns) for file in files]  # all, before the long work on one
    with progress("checking, bytes", sum(file.path.stat().st_size for file in files)) as shown:
        return [_check(file, layout, moment, shown) for file, layout in zip(files, layouts, strict=True)]


def _check(file: TripFile, layout: Layout, now: datetime, shown: Progress) -> CheckedFile:
    judged, position = [pl.DataFrame(schema=JUDGED)], 0
    for batch in file.batches(used_columns(layout)):
        check_types(file, layout, batch.rows)
        judged.append(judge_alone(read_values(batch, layout), now))
        shown.advance(batch.bytes_read - position)
        position = batch.bytes_read
    rows = pl.concat(judged)
    if rows.is_empty():
        raise BadInput(f"{file.path} has a header and no rows: download it again, or leave it out")
    months = months_of(file.path.name, rows["month"])
    return CheckedFile(file, layout, months, judge_together(rows, months))
