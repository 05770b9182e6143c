"""Convert the raw values of a trip file to times, zones, metres and cents, and derive trip ids.

A trip gets the same id from every file, format, spelling and order of columns, on every machine and with
every version of the libraries, so a trip that is loaded again is recognized. The id is the ride's request id,
a UUIDv8 (RFC 9562 §5.8: 122 custom bits).

The hash has two lanes of 64 bits. Each combines one field after the other with the finalizer of SplitMix64
(Steele, Lea, Flood 2014), on whole columns: about ten million rows per second, ten times faster than BLAKE2
row by row. Among a billion trips the probability of a collision is 10⁻¹⁹. The hash is not cryptographic:
collisions can be constructed.
"""

import hashlib
from datetime import datetime
from functools import reduce
from operator import or_

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from oltp.ingest.tlc.times import NEW_YORK, TIMES, read_times
from oltp.ingest.tlc.trip_file import TripBatch, TripFile, TripKind, TripLayout
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


def used_columns(layout: TripLayout) -> list[str]:
    return list(layout.names.values())


def check_types(file: TripFile, layout: TripLayout, rows: pl.DataFrame) -> None:
    """Check the column types of a file. Raises BadInput if a column has the wrong type."""
    for meaning, name in layout.names.items():
        dtype = rows.schema[name]
        typed = isinstance(dtype, pl.Datetime) if meaning in TIMES else dtype.is_numeric()
        if not typed and not isinstance(dtype, pl.String | pl.Null | pl.Categorical):
            wanted = "a time" if meaning in TIMES else "a number"
            raise BadInput(
                f"{file.path}: the column {name} has type {dtype}, not {wanted}: use the file as published"
            )


def read_values(batch: TripBatch, layout: TripLayout) -> pl.DataFrame:
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


def parse(batch: TripBatch, layout: TripLayout) -> tuple[dict[str, pl.Series], dict[str, pl.Series]]:
    """By meaning: the values of each column, null if missing; and whether a value was present but could not
    be parsed."""
    raw = {meaning: _stripped(batch.rows[name]) for meaning, name in layout.names.items()}
    read = {meaning: _read(column, meaning, layout).alias(meaning) for meaning, column in raw.items()}
    return read, {meaning: _unparsable(raw[meaning], read[meaning]) for meaning in raw}


def _stripped(column: pl.Series) -> pl.Series:
    """Text without surrounding blanks; NaN as null, because pandas writes missing values as NaN."""
    if column.dtype.is_float():
        return column.fill_nan(None)
    if column.dtype.is_numeric() or column.dtype.is_temporal():
        return column
    return column.cast(pl.String).str.strip_chars()


def _unparsable(raw: pl.Series, read: pl.Series) -> pl.Series:
    """Whether a value was present but could not be parsed."""
    lost = raw.is_not_null() & read.is_null()
    if raw.dtype == pl.String and lost.any():
        return lost & ~raw.str.to_lowercase().is_in(NOTHING)
    return lost


def _read(column: pl.Series, meaning: str, layout: TripLayout) -> pl.Series:
    if meaning in TIMES:
        return _read_times(column, layout)
    if meaning == "vendor":
        return column.cast(pl.String)  # every text is valid
    number = column.cast(pl.Float64, strict=False).fill_nan(None)
    number = number.set(number.abs() > NUMBER_MAX, None)
    if meaning in ZONES:
        return number.set(number != number.floor(), None).cast(pl.Int64)
    return cents(number) if meaning in MONEY else number


def _read_times(column: pl.Series, layout: TripLayout) -> pl.Series:
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


def _in_units(read: pl.DataFrame, kind: TripKind) -> pl.DataFrame:
    """Convert miles to metres. `fare_cents`: the amount that the rider paid, without the tip."""
    tip = pl.col("tip").fill_null(0)
    if kind is TripKind.HVFHV:
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


Words = NDArray[np.uint64]

# Random odd constants. Changing one changes all trip ids; a test fixes their values.
LANES = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
STEP = np.uint64(0x9E3779B97F4A7C15)

# Without the kind: exports of yellow and green trips do not always distinguish them.
FIELDS = ("pickup", "dropoff", "pickup_zone", "dropoff_zone", "distance_metres", "fare_cents", "tip_cents")


def trip_keys(trips: pl.DataFrame) -> tuple[Words, Words]:
    """Upper and lower half of each trip's id. Amounts are hashed without their sign, so that a refund has the
    key of its trip. Nulls are hashed as zero."""
    words = [_vendor_words(trips["vendor"])]
    for name in FIELDS:
        column = trips[name].to_physical().cast(pl.Int64).fill_null(0)
        words.append((column.abs() if name.endswith("_cents") else column).to_numpy().astype(np.uint64))
    upper, lower = (_lane(words, np.uint64(start)) for start in LANES)
    version_8 = (upper & np.uint64(0xFFFF_FFFF_FFFF_0FFF)) | np.uint64(0x8000)
    variant = (lower & np.uint64(0x3FFF_FFFF_FFFF_FFFF)) | np.uint64(0x8000_0000_0000_0000)
    return version_8, variant


def request_ids(upper: Words, lower: Words) -> pl.Series:
    """The two halves as 16 bytes."""
    both = np.stack([upper, lower], axis=1).astype(">u8")
    fixed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(upper), [None, pa.py_buffer(both.tobytes())]
    )
    return pl.Series("request_id", pl.from_arrow(fixed.cast(pa.large_binary())), dtype=pl.Binary)


def _vendor_words(vendor: pl.Series) -> Words:
    spellings = vendor.fill_null("").unique().to_list()
    words = [_text_word(_vendor_name(spelling)) for spelling in spellings]
    if not spellings:
        return np.empty(0, dtype=np.uint64)
    return vendor.fill_null("").replace_strict(spellings, words, return_dtype=pl.UInt64).to_numpy()


def _vendor_name(spelling: str) -> str:
    """The canonical name: 1, 1.0 and "1" are the same vendor; nan, NULL and an empty text are no vendor."""
    try:
        number = float(spelling)
    except ValueError:
        return "" if spelling.lower() in NOTHING else spelling
    return str(int(number)) if number.is_integer() else ""


def _text_word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _lane(words: list[Words], start: np.uint64) -> Words:
    state = np.full(len(words[0]), start, dtype=np.uint64)
    for word in words:
        state ^= word
        state += STEP  # overflow is intended, here and below
        state ^= state >> np.uint64(30)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(27)
        state *= np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state
