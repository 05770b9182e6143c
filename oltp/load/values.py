"""What stands in a file → times, zones, metres and cents. The only place that knows raw types."""

from datetime import datetime
from functools import reduce
from operator import or_

import polars as pl

from oltp.load.tlc import Kind, Layout
from oltp.load.trip_file import Batch, TripFile
from ridelake.errors import BadInput

TIMES = ("pickup", "dropoff", "request")
ZONES = ("pickup_zone", "dropoff_zone")
FEES = ("tolls", "bcf", "sales_tax", "congestion_surcharge", "airport_fee", "cbd_congestion_fee")
MONEY = ("total", "tip", "base_fare", *FEES)
NEEDED = ("pickup", "dropoff", "pickup_zone", "dropoff_zone", "miles", "total", "base_fare")

# How exports write "nothing", in lower case.
NOTHING = ("", "null", "none", "nan", "na", "n/a", "\\n")

# The TLC's own, NYC Open Data's, and a few that spreadsheets make of them.
TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S",
    "%Y-%m-%d %H:%M",
)  # fmt: skip

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
        good = dtype in (pl.String, pl.Null, pl.Categorical) or isinstance(dtype, pl.Categorical)
        if meaning in TIMES:
            good = good or isinstance(dtype, pl.Datetime)
        else:
            good = good or dtype.is_numeric()
        if not good:
            wanted = "a time" if meaning in TIMES else "a number"
            raise BadInput(
                f"{file.path}: the column {name} is {dtype}, not {wanted}; get the file as the TLC publishes it"
            )


def read_values(batch: Batch, layout: Layout) -> pl.DataFrame:
    """Of each row: vendor, pickup, dropoff, [request], zones, distance_metres, fare_cents, tip_cents, and
    `unreadable`, `incomplete`. Nothing is null in the columns of a row that is neither (but vendor and
    request)."""
    raw = batch.rows.select(
        _present(batch.rows, name).alias(meaning) for meaning, name in layout.names.items()
    )
    read = raw.select(_reader(raw, meaning) for meaning in raw.columns)

    spoilt = [raw[meaning].is_not_null() & read[meaning].is_null() for meaning in raw.columns]
    if batch.malformed is not None:
        spoilt.append(batch.malformed)
    absent = [read[meaning].is_null() for meaning in raw.columns if meaning in NEEDED]
    return _in_units(read, layout.kind).with_columns(unreadable=_any(spoilt), incomplete=_any(absent))


def _any(flags: list[pl.Series]) -> pl.Series:
    return reduce(or_, flags)


def _present(rows: pl.DataFrame, name: str) -> pl.Expr:
    """The raw value, or null for every way of writing nothing."""
    dtype = rows.schema[name]
    if dtype.is_float():
        return pl.col(name).fill_nan(None)
    if dtype.is_numeric() or dtype.is_temporal():
        return pl.col(name)
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(~text.str.to_lowercase().is_in(NOTHING)).then(text)


def _reader(raw: pl.DataFrame, meaning: str) -> pl.Expr:
    dtype = raw.schema[meaning]
    column = pl.col(meaning)
    if meaning in TIMES:
        return _time(column, dtype)
    if meaning == "vendor":
        number = column.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False).cast(pl.String)
        return pl.coalesce(number, column.cast(pl.String))  # 1, 1.0 and "1" are one vendor
    number = column.cast(pl.Float64, strict=False)
    number = pl.when(number.abs() <= NUMBER_MAX).then(number)
    if meaning in ZONES:
        return pl.when(number == number.floor()).then(number).cast(pl.Int64)
    return cents(number) if meaning in MONEY else number


def _time(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            column = column.dt.convert_time_zone("America/New_York").dt.replace_time_zone(None)
        column = column.cast(pl.Datetime("us"))
    else:
        column = pl.coalesce(
            column.str.to_datetime(form, time_unit="us", strict=False) for form in TIME_FORMATS
        )
    return pl.when(column.is_between(CLOCK_MIN, CLOCK_MAX)).then(column)


def cents(dollars: pl.Expr) -> pl.Expr:
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
