"""Converts raw values of a file to times, zones, metres and cents. No other module handles raw types."""

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

# Texts that exports write for a missing value, in lower case.
NOTHING = ("", "null", "none", "nan", "na", "n/a", "\\n")

METRES_PER_MILE = 1609.344
# A larger number is invalid, and could overflow.
NUMBER_MAX = 1e9
CLOCK_MIN, CLOCK_MAX = datetime(1900, 1, 1), datetime(2200, 1, 1)  # local times


def used_columns(layout: Layout) -> list[str]:
    return list(layout.names.values())


def check_types(file: TripFile, layout: Layout, rows: pl.DataFrame) -> None:
    """Raises BadInput if a column has the wrong type."""
    for meaning, name in layout.names.items():
        dtype = rows.schema[name]
        typed = isinstance(dtype, pl.Datetime) if meaning in TIMES else dtype.is_numeric()
        if not typed and not isinstance(dtype, pl.String | pl.Null | pl.Categorical):
            wanted = "a time" if meaning in TIMES else "a number"
            raise BadInput(
                f"{file.path}: the column {name} has type {dtype}, not {wanted}: use the file as published"
            )


def read_values(batch: Batch, layout: Layout) -> pl.DataFrame:
    """For each row: vendor, pickup, dropoff, [request], zones, distance_metres, fare_cents, tip_cents, and
    `unreadable`, `incomplete`. A row that is neither has no nulls except in vendor and request."""
    read, spoilt_columns = parse(batch, layout)
    spoilt = list(spoilt_columns.values())
    if batch.malformed is not None:
        spoilt.append(batch.malformed > 0)
    absent = [column.is_null() for meaning, column in read.items() if meaning in NEEDED]
    return _in_units(pl.DataFrame(read), layout.kind).with_columns(
        unreadable=reduce(or_, spoilt), incomplete=reduce(or_, absent)
    )


def parse(batch: Batch, layout: Layout) -> tuple[dict[str, pl.Series], dict[str, pl.Series]]:
    """By meaning: the values of each column, null if missing; and whether a value was present but could not
    be parsed."""
    raw = {meaning: _stripped(batch.rows[name]) for meaning, name in layout.names.items()}
    read = {meaning: _read(column, meaning, layout).alias(meaning) for meaning, column in raw.items()}
    return read, {meaning: _spoilt(raw[meaning], read[meaning]) for meaning in raw}


def _stripped(column: pl.Series) -> pl.Series:
    """Text without surrounding blanks; NaN as null, because pandas writes missing values as NaN."""
    if column.dtype.is_float():
        return column.fill_nan(None)
    if column.dtype.is_numeric() or column.dtype.is_temporal():
        return column
    return column.cast(pl.String).str.strip_chars()


def _spoilt(raw: pl.Series, read: pl.Series) -> pl.Series:
    """Whether a value was present but could not be parsed."""
    lost = raw.is_not_null() & read.is_null()
    if raw.dtype == pl.String and lost.any():
        return lost & ~raw.str.to_lowercase().is_in(NOTHING)
    return lost


def _read(column: pl.Series, meaning: str, layout: Layout) -> pl.Series:
    if meaning in TIMES:
        return _read_times(column, layout)
    if meaning == "vendor":
        return column.cast(pl.String)  # every text is valid
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
    """Exact: the float for 1.015 is 1.01499999999999990230, so the value is first rounded to the intended
    decimal, then to the cent, half to even."""
    return (dollars * 100).round(6).round(0, mode="half_to_even").cast(pl.Int64)


def _in_units(read: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    """Convert miles to metres. `fare_cents`: the amount that the rider paid, without the tip."""
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
