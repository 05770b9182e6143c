"""The formats of times in text files: ISO 8601, month/day/year or day/month/year.

ISO is unambiguous. Between the other two the values of the file decide: 3/13/2019 can only be in March. If
every value is ambiguous, the file is refused until `--time-format` gives the format; a wrong guess would move
trips to other months without an error.
"""

from dataclasses import replace
from datetime import UTC, datetime

import polars as pl

from oltp.load.tlc import Layout
from oltp.load.trip_file import TripFile
from ridelake.errors import BadInput, UsageError

TIMES = ("pickup", "dropoff", "request")
MONTH_FIRST, DAY_FIRST = "%m/%d/%Y", "%d/%m/%Y"
IN_WORDS = {MONTH_FIRST: "month/day/year", DAY_FIRST: "day/month/year"}
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


def with_date_order(file: TripFile, layout: Layout, rows: pl.DataFrame) -> Layout:
    """The layout with the order of month and day, if these rows have dates with slashes. The rows of the file
    are read until one of them decides. Raises BadInput if none does, or if two contradict each other."""
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


def _time_columns(layout: Layout) -> list[str]:
    return [layout.names[meaning] for meaning in TIMES if meaning in layout.names]


def _slashed(layout: Layout, rows: pl.DataFrame) -> pl.DataFrame:
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


def read_times(column: pl.Series, layout: Layout, zone: str) -> pl.Series:
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
