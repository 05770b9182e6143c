"""What stands in a file → times, zones, metres and cents. The only place that knows raw types."""

from datetime import datetime
from functools import reduce
from operator import or_

import polars as pl

from oltp.load.clock import NEW_YORK
from oltp.load.time_forms import TIMES, read_times
from oltp.load.tlc import Kind, Layout
from oltp.load.trip_file import Batch, TripFile
from ridelake.errors import BadInput

ZONES = ("pickup_zone", "dropoff_zone")
FEES = ("tolls", "bcf", "sales_tax", "congestion_surcharge", "airport_fee", "cbd_congestion_fee")
MONEY = ("total", "tip", "base_fare", *FEES)
NEEDED = ("pickup", "dropoff", "pickup_zone", "dropoff_zone", "miles", "total", "base_fare")

# How exports write "nothing", in lower case.
NOTHING = ("", "null", "none", "nan", "na", "n/a", "\\n")

METRES_PER_MILE = 1609.344
# A larger number is a broken field, and would not fit the arithmetic.
NUMBER_MAX = 1e9
CLOCK_MIN, CLOCK_MAX = datetime(1900, 1, 1), datetime(2200, 1, 1)  # wall clocks


def used_columns(layout: Layout) -> list[str]:
    return list(layout.names.values())


def check_types(file: TripFile, layout: Layout, rows: pl.DataFrame) -> None:
    """Raises BadInput if a column is of a type that cannot be what it should."""
    for meaning, name in layout.names.items():
        dtype = rows.schema[name]
        typed = isinstance(dtype, pl.Datetime) if meaning in TIMES else dtype.is_numeric()
        if not typed and not isinstance(dtype, pl.String | pl.Null | pl.Categorical):
            wanted = "a time" if meaning in TIMES else "a number"
            raise BadInput(
                f"{file.path}: the column {name} is {dtype}, not {wanted}: take the file as published"
            )


def read_values(batch: Batch, layout: Layout) -> pl.DataFrame:
    """Of each row: vendor, pickup, dropoff, [request], zones, distance_metres, fare_cents, tip_cents, and
    `unreadable`, `incomplete`. Nothing is null in the columns of a row that is neither (but vendor and
    request)."""
    read, spoilt_columns = parse(batch, layout)
    spoilt = list(spoilt_columns.values())
    if batch.malformed is not None:
        spoilt.append(batch.malformed > 0)
    absent = [column.is_null() for meaning, column in read.items() if meaning in NEEDED]
    return _in_units(pl.DataFrame(read), layout.kind).with_columns(
        unreadable=reduce(or_, spoilt), incomplete=reduce(or_, absent)
    )


def parse(batch: Batch, layout: Layout) -> tuple[dict[str, pl.Series], dict[str, pl.Series]]:
    """By meaning: the values of each column, null where there is none; and where something was written that
    could not be read."""
    raw = {meaning: _stripped(batch.rows[name]) for meaning, name in layout.names.items()}
    read = {meaning: _read(column, meaning, layout).alias(meaning) for meaning, column in raw.items()}
    return read, {meaning: _spoilt(raw[meaning], read[meaning]) for meaning in raw}


def _stripped(column: pl.Series) -> pl.Series:
    """Text without blanks around it, and NaN as null, which is how pandas writes nothing."""
    if column.dtype.is_float():
        return column.fill_nan(None)
    if column.dtype.is_numeric() or column.dtype.is_temporal():
        return column
    return column.cast(pl.String).str.strip_chars()


def _spoilt(raw: pl.Series, read: pl.Series) -> pl.Series:
    """Where something was written that could not be read."""
    lost = raw.is_not_null() & read.is_null()
    if raw.dtype == pl.String and lost.any():
        return lost & ~raw.str.to_lowercase().is_in(NOTHING)
    return lost


def _read(column: pl.Series, meaning: str, layout: Layout) -> pl.Series:
    if meaning in TIMES:
        return _read_times(column, layout)
    if meaning == "vendor":
        return column.cast(pl.String)  # every text can be one
    number = column.cast(pl.Float64, strict=False).fill_nan(None)
    number = number.set(number.abs() > NUMBER_MAX, None)
    if meaning in ZONES:
        return number.set(number != number.floor(), None).cast(pl.Int64)
    return cents(number) if meaning in MONEY else number


def _read_times(column: pl.Series, layout: Layout) -> pl.Series:
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone is not None:
            column = column.dt.convert_time_zone(NEW_YORK).dt.replace_time_zone(None)
        times = column.cast(pl.Datetime("us"))
    else:
        times = read_times(column, layout, NEW_YORK)
    return times.set(~times.is_between(CLOCK_MIN, CLOCK_MAX), None)


def cents(dollars: pl.Series) -> pl.Series:
    """Exact: 1.015 stands in a float as 1.01499999999999990230 and still is 1.015. So first to the decimal
    that was meant, then to the cent, half to even."""
    return (dollars * 100).round(6).round(0, mode="half_to_even").cast(pl.Int64)


def _in_units(read: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    """`fare_cents`: what the rider paid without the tip."""
    tip = pl.col("tip").fill_null(0)
    if kind is Kind.HVFHV:
        fees = [pl.col(name).fill_null(0) for name in FEES if name in read.columns]
        fare = pl.sum_horizontal(pl.col("base_fare"), *fees, ignore_nulls=False)
    else:
        fare = pl.col("total") - tip
    if "vendor" not in read.columns:
        read = read.with_columns(vendor=pl.lit(None, dtype=pl.String))
    return read.select(
        "vendor",
        "pickup",
        "dropoff",
        *(["request"] if "request" in read.columns else []),
        *ZONES,
        distance_metres=(pl.col("miles") * METRES_PER_MILE).round(0).cast(pl.Int64),
        fare_cents=fare,
        tip_cents=tip,
    )
