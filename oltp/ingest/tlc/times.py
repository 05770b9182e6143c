"""Times in trip files: their text formats, New York's wall clock, and the months of a file.

The files have local times without an offset. Twice a year these are ambiguous or invalid:

- Spring: 02:00–03:00 does not exist. Such a time comes from a clock that was not put forward, so it is read
  as standard time (UTC-5): 02:30 is 07:30 UTC, which is 03:30 in New York.
- Autumn: 01:00–02:00 exists twice. Of the readings in which the trip ends after it begins, the one with the
  shortest trip is used; if both times are in the repeated hour, the earlier one, unless the trip would end
  before it begins.

ISO dates are unambiguous. For dates with slashes, the order of month and day is derived from the values of
the file: 3/13/2019 can only be in March. If every value is ambiguous, the file is refused until
`--time-format` gives the format; a wrong guess would move trips to other months without an error.
"""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from oltp.ingest.tlc.trip_file import TripFile, TripLayout
from ridelake.errors import BadInput, UsageError

Reading = Literal["earliest", "latest"]  # how to read a time in the repeated hour

NEW_YORK = "America/New_York"
STANDARD_OFFSET = pl.duration(hours=5)  # of New York to UTC in winter


def to_utc(local: pl.Expr, doubled: Reading) -> pl.Expr:
    """The UTC time of a local time."""
    known = local.dt.replace_time_zone(NEW_YORK, ambiguous=doubled, non_existent="null")
    return pl.coalesce(known.dt.convert_time_zone("UTC"), local.dt.replace_time_zone("UTC") + STANDARD_OFFSET)


def local_time(at: pl.Expr) -> pl.Expr:
    """The local time in New York of a UTC time."""
    return at.dt.convert_time_zone(NEW_YORK).dt.replace_time_zone(None)


def with_utc_times(trips: pl.DataFrame) -> pl.DataFrame:
    """Add `started_at`, `ended_at`, and `asked_at` where the file has a request time (null elsewhere)."""
    both = trips.with_columns(
        begin_first=to_utc(pl.col("pickup"), "earliest"),
        begin_last=to_utc(pl.col("pickup"), "latest"),
        end_first=to_utc(pl.col("dropoff"), "earliest"),
        end_last=to_utc(pl.col("dropoff"), "latest"),
    )
    end_is_doubled = pl.col("end_first") != pl.col("end_last")
    begins_late = ~end_is_doubled & (pl.col("begin_last") < pl.col("end_first"))
    placed = both.with_columns(
        started_at=pl.when(begins_late).then("begin_last").otherwise("begin_first"),
        ended_at=pl.when(pl.col("end_first") > pl.col("begin_first")).then("end_first").otherwise("end_last"),
    )
    if "request" in trips.columns:
        early, late = to_utc(pl.col("request"), "earliest"), to_utc(pl.col("request"), "latest")
        asked = pl.when(late <= pl.col("started_at")).then(late).otherwise(early)
        placed = placed.with_columns(asked_at=asked)
    else:
        placed = placed.with_columns(asked_at=pl.lit(None, dtype=pl.Datetime("us", "UTC")))
    return placed.drop("begin_first", "begin_last", "end_first", "end_last")


TIMES = ("pickup", "dropoff", "request")
MONTH_FIRST, DAY_FIRST = "%m/%d/%Y", "%d/%m/%Y"
DATE_ORDER_NAMES = {MONTH_FIRST: "month/day/year", DAY_FIRST: "day/month/year"}
# The time after a date with slashes; Excel omits the seconds.
CLOCKS = ("%I:%M:%S %p", "%H:%M:%S%.f", "%H:%M", "%I:%M %p")

_SLASHED = r"^\s*(\d{1,2})/(\d{1,2})/\d{4}\b"
_PROBE = datetime(2019, 12, 31, 17, 49, tzinfo=UTC)


def check_time_format(form: str) -> str:
    """Return `form`. Raises UsageError unless a time that is written in that format can be read back."""
    try:
        again = datetime.strptime(_PROBE.strftime(form), form)
    except ValueError:
        again = None
    if again is None or again.replace(tzinfo=UTC) != _PROBE:
        raise UsageError(
            f"--time-format '{form}' is not a format of a date and a time: "
            "use %Y, %m, %d, %H (or %I with %p) and %M, as in '%m/%d/%Y %H:%M'"
        )
    return form


def with_date_order(file: TripFile, layout: TripLayout, rows: pl.DataFrame) -> TripLayout:
    """The layout with the order of month and day, if these rows have dates with slashes. The rows of the file
    are read until a date is unambiguous. Raises BadInput if none is, or if two contradict each other."""
    if layout.time_format or layout.date_order or not _slashed(layout, rows).height:
        return layout
    found: dict[str, tuple[str, str]] = {}
    for batch in file.batches(_time_columns(layout)):
        slashed = _slashed(layout, batch.rows)
        for order, part in ((MONTH_FIRST, "second"), (DAY_FIRST, "first")):
            decisive = slashed.filter(pl.col(part) > 12)
            if decisive.height and order not in found:
                found[order] = decisive.item(0, "column"), decisive.item(0, "value")
        if found:
            break
    if len(found) == 1:
        ((order, (_, value)),) = found.items()
        return replace(layout, date_order=order, decided_by=value)
    if found:
        values = " and ".join(f"'{value}' in {column}" for column, value in found.values())
        raise BadInput(f"{file.path} has times in two formats, {values}: {_HINT}")
    first = _slashed(layout, rows).row(0, named=True)
    raise BadInput(
        f"{file.path}: '{first['value']}' in column {first['column']} can be month/day/year or "
        f"day/month/year, and no other value of the file decides it: {_HINT}"
    )


_HINT = "give the format, as in --time-format '%m/%d/%Y %H:%M'"


def _time_columns(layout: TripLayout) -> list[str]:
    return [layout.names[meaning] for meaning in TIMES if meaning in layout.names]


def _slashed(layout: TripLayout, rows: pl.DataFrame) -> pl.DataFrame:
    """The columns `column`, `value`, `first` and `second`, with a row for each time that is written with
    slashes."""
    schema = {"column": pl.String, "value": pl.String, "first": pl.Int64, "second": pl.Int64}
    parts = [pl.DataFrame(schema=schema)]
    for name in _time_columns(layout):
        column = rows[name]
        if column.dtype not in (pl.String, pl.Categorical):
            continue
        if not column.cast(pl.String).str.contains("/", literal=True).any():
            continue
        text = column.cast(pl.String).rename("value").to_frame()
        groups = text.with_columns(
            pl.col("value").str.extract(_SLASHED, 1).cast(pl.Int64).alias("first"),
            pl.col("value").str.extract(_SLASHED, 2).cast(pl.Int64).alias("second"),
        ).drop_nulls()
        parts.append(groups.select(pl.lit(name).alias("column"), "value", "first", "second"))
    return pl.concat(parts)


def read_times(column: pl.Series, layout: TripLayout, zone: str) -> pl.Series:
    """Local times of `zone` from text; null if the text cannot be parsed."""
    if layout.time_format:
        times = _parsed(column, layout.time_format)
        if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone:
            times = times.dt.convert_time_zone(zone).dt.replace_time_zone(None)
        return times
    times = _parsed(column, "%Y-%m-%d %H:%M:%S%.f")
    forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]
    if layout.date_order:
        forms += [f"{layout.date_order} {clock}" for clock in CLOCKS]
    for form in forms:
        if times.null_count() == column.null_count():
            return times
        times = times.zip_with(times.is_not_null(), _parsed(column, form))
    if times.null_count() > column.null_count():
        times = times.zip_with(times.is_not_null(), _with_offset(column, zone))
    return times


def _with_offset(column: pl.Series, zone: str) -> pl.Series:
    """ISO times that end in Z, +02, +0200 or +02:00."""
    text = column.str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T").str.replace(r"\s*[Zz]$", "+0000")
    text = text.str.replace(r"(:\d\d(?:\.\d+)?)\s*([+-]\d\d)$", "${1}${2}00")
    text = text.str.replace(r"\s*([+-]\d\d):(\d\d)$", "${1}${2}")
    times = _parsed(text, "%Y-%m-%dT%H:%M:%S%.f%z")
    times = times.zip_with(times.is_not_null(), _parsed(text, "%Y-%m-%dT%H:%M%z"))
    return times.dt.convert_time_zone(zone).dt.replace_time_zone(None)


def _parsed(column: pl.Series, form: str) -> pl.Series:
    return column.str.to_datetime(form, time_unit="us", strict=False)


# The share of rows that decides the period; some rows may have wrong times.
SHARE_MIN = 0.9
FIRST_MONTH = 2009 * 12 + 1  # the TLC's oldest file

Months = tuple[int, int]  # the first and the last, as year × 12 + month


def months_of(name: str, month: pl.Series) -> Months:
    """The first of these that applies to nine of ten rows: the month in the file's name, the year in it, the
    most frequent month, the most frequent year. Otherwise everything since the TLC's first file."""
    known = month.filter(month > 0)
    if known.is_empty():
        return FIRST_MONTH, 2**31 - 1
    month_most = known.mode().sort().item(0)
    year_most = ((known - 1) // 12).mode().sort().item(0)
    for first, last in (*_named(name), (month_most, month_most), _year(year_most)):
        if known.is_between(first, last).sum() >= SHARE_MIN * len(known):
            return first, last
    return FIRST_MONTH, 2**31 - 1


def format_months(months: Months) -> str:
    """2024-01, 2019, or an empty text for any period."""
    first, last = months
    year, number = divmod(first - 1, 12)
    if first == last:
        return f"{year}-{number + 1:02}"
    return str(year) if (first, last) == _year(year) else ""


def _named(name: str) -> list[Months]:
    months = [
        int(year) * 12 + int(month)
        for year, month in re.findall(r"(?<!\d)(20\d\d)[-_]?(0[1-9]|1[0-2])(?!\d)", name)
    ]
    years = [int(year) for year in re.findall(r"(?<!\d)(20\d\d)(?!\d)", name)]
    return [(month, month) for month in months] + [_year(year) for year in years]


def _year(year: int) -> Months:
    return year * 12 + 1, year * 12 + 12
