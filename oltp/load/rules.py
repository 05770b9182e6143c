"""The rules that reject rows. A rejected row gets one reason, the first in the list that applies.

    alone       reasons that depend on the row only (`judge_alone`)
    together    reasons that depend on other rows of the file (`judge_together`): refunds, the month, copies

Refunds. The TLC records a refund as a second row with the same vendor, times, zones and distance and the
negative amounts. Both rows are rejected, so the sum of the loaded fares is the amount that was earned. Rows
are paired one to one: of a trip that is charged twice and refunded once, one row is loaded. A negative row
whose trip is in another file is rejected alone (`negative_fare`).
"""

from datetime import datetime
from enum import StrEnum

import numpy as np
import polars as pl

from oltp.load.clock import wall_clock, with_moments
from oltp.load.trip_id import request_ids, trip_keys
from oltp.places import NEW_YORK, TLC_UNKNOWN_ZONES, TLC_ZONE_OFFSET, cities
from oltp.trips import TRIPS


class Reason(StrEnum):
    """Reasons for a rejection, in the order in which they are tested."""

    UNREADABLE = "unreadable"
    MISSING_VALUE = "missing_value"
    REFUND = "refund"
    REFUNDED = "refunded"
    NEGATIVE_FARE = "negative_fare"
    ZERO_FARE = "zero_fare"
    IMPLAUSIBLE_FARE = "implausible_fare"
    IMPOSSIBLE_TIMES = "impossible_times"
    TOO_LONG = "too_long"
    IN_THE_FUTURE = "in_the_future"
    NO_DISTANCE = "no_distance"
    TOO_FAR = "too_far"
    TOO_FAST = "too_fast"
    UNKNOWN_ZONE = "unknown_zone"
    OTHER_PERIOD = "other_period"
    DUPLICATE = "duplicate"
    ALREADY_LOADED = "already_loaded"  # the row is valid; it is not written to the quarantine


FARE_CENTS_MAX = 100_000  # of 176,000 real trips one was above $1,000, by a typing error
TRIP_HOURS_MAX = 20  # meters that were not stopped show just under 24 h; the longest shift is 12 h
TRIP_METRES_MAX = 321_869  # 200 miles: the longest flat fare; longer trips are meter errors
SPEED_MAX = 44.704  # metres per second: 100 miles per hour

MEANING = {
    Reason.UNREADABLE: "has an invalid number or time, or too few or too many fields",
    Reason.MISSING_VALUE: "lacks a time, a zone, the distance or the fare",
    Reason.REFUND: "refunds a trip of the same file",
    Reason.REFUNDED: "is a trip that was refunded",
    Reason.NEGATIVE_FARE: "has a negative fare or tip, and refunds no trip of the file",
    Reason.ZERO_FARE: "has a fare of 0",
    Reason.IMPLAUSIBLE_FARE: f"has a fare or tip above ${FARE_CENTS_MAX // 100:,}",
    Reason.IMPOSSIBLE_TIMES: "does not end after it begins",
    Reason.TOO_LONG: f"lasts more than {TRIP_HOURS_MAX} hours",
    Reason.IN_THE_FUTURE: "ends in the future",
    Reason.NO_DISTANCE: "has a distance of 0 or less",
    Reason.TOO_FAR: "is longer than 200 miles",
    Reason.TOO_FAST: "is faster than 100 miles per hour",
    Reason.UNKNOWN_ZONE: "begins in zone 264 or 265 (unknown, outside), or in an unknown zone",
    Reason.OTHER_PERIOD: "begins outside of the month or year of the file",
    Reason.DUPLICATE: "is a copy of another row of the file",
    Reason.ALREADY_LOADED: "is already in the store",
}

GOOD = 0
CODE = {reason: code for code, reason in enumerate(Reason, start=1)}  # one byte per row

# What the first pass keeps of a row. `sign`: +1 for a trip that can be refunded, -1 for a refund, 0 for
# others. `month`: year × 12 + month of the pick-up, -1 if unknown.
JUDGED = pl.Schema(
    {"upper": pl.UInt64, "lower": pl.UInt64, "sign": pl.Int8, "month": pl.Int32, "verdict": pl.UInt8}
)


def judge_alone(values: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """A frame of schema JUDGED: the keys of the rows, and as verdict the first reason that depends on the row
    only."""
    fare, tip = pl.col("fare_cents"), pl.col("tip_cents")
    lasted = pl.col("ended_at") - pl.col("started_at")
    metres = pl.col("distance_metres")
    tests = {
        Reason.UNREADABLE: pl.col("unreadable"),
        Reason.MISSING_VALUE: pl.col("incomplete"),
        Reason.NEGATIVE_FARE: (fare < 0) | (tip < 0),
        Reason.ZERO_FARE: fare == 0,
        Reason.IMPLAUSIBLE_FARE: (fare > FARE_CENTS_MAX) | (tip > FARE_CENTS_MAX),
        Reason.IMPOSSIBLE_TIMES: lasted <= pl.duration(),
        Reason.TOO_LONG: lasted > pl.duration(hours=TRIP_HOURS_MAX),
        Reason.IN_THE_FUTURE: pl.col("ended_at") > now,
        Reason.NO_DISTANCE: metres <= 0,
        Reason.TOO_FAR: metres > TRIP_METRES_MAX,
        Reason.TOO_FAST: metres > lasted.dt.total_microseconds() * (SPEED_MAX / 1e6),
        Reason.UNKNOWN_ZONE: ~pl.col("pickup_zone").is_in(_zones() - set(TLC_UNKNOWN_ZONES))
        | ~pl.col("dropoff_zone").is_in(_zones()),
    }
    verdict = pl.coalesce(
        *(pl.when(test).then(pl.lit(CODE[reason], dtype=pl.UInt8)) for reason, test in tests.items()),
        pl.lit(GOOD, dtype=pl.UInt8),
    )
    legible = ~(pl.col("unreadable") | pl.col("incomplete"))
    pickup = pl.col("pickup").dt
    upper, lower = trip_keys(values)
    return with_moments(values).select(
        upper=pl.Series(upper),
        lower=pl.Series(lower),
        sign=pl.when(~legible).then(0).when((fare > 0) & (tip >= 0)).then(1)
        .when((fare < 0) & (tip <= 0)).then(-1).otherwise(0).cast(pl.Int8),
        month=pl.when(legible).then(pickup.year() * 12 + pickup.month()).otherwise(-1).cast(pl.Int32),
        verdict=verdict,
    )  # fmt: skip


def judge_together(judged: pl.DataFrame, months: tuple[int, int]) -> pl.Series:
    """The final code of each row of a whole file. `months`: the first and the last month of the file."""
    verdict = pl.col("verdict")
    rows = judged.with_columns(_refunds(judged)).with_columns(
        verdict=pl.when(verdict.eq(GOOD) & ~pl.col("month").is_between(*months))
        .then(pl.lit(CODE[Reason.OTHER_PERIOD], dtype=pl.UInt8))
        .otherwise(verdict)
    )
    # Only the few rows that share one half of the key are compared in full.
    half = np.sort(rows.filter(verdict == GOOD)["upper"].to_numpy())
    shared = pl.Series(half[1:][half[1:] == half[:-1]]).implode()
    alike = rows.with_row_index("row").filter(verdict.eq(GOOD) & pl.col("upper").is_in(shared))
    copies = alike.filter(~pl.struct("upper", "lower").is_first_distinct())["row"]
    return rows["verdict"].scatter(copies, CODE[Reason.DUPLICATE])


def _refunds(judged: pl.DataFrame) -> pl.Series:
    """The verdicts, with refunds and refunded trips marked: the first refund with the first trip, and so
    on."""
    key = ["upper", "lower"]
    numbered = judged.with_row_index("row")
    negative = numbered.filter(pl.col("sign") == -1)
    taken_back = negative["upper"].implode()
    positive = numbered.filter(pl.col("sign").eq(1) & pl.col("upper").is_in(taken_back))
    nth = pl.int_range(pl.len()).over(key)
    pairs = negative.with_columns(nth=nth).join(positive.with_columns(nth=nth), on=[*key, "nth"])
    verdict = judged["verdict"].clone()
    verdict = verdict.scatter(pairs["row"], CODE[Reason.REFUND])
    return verdict.scatter(pairs["row_right"], CODE[Reason.REFUNDED])


def as_trips(values: pl.DataFrame) -> pl.DataFrame:
    """Accepted rows as a frame of schema TRIPS.

    If the request time is missing (taxis are hailed), after the pick-up (the driver of a ride that was
    ordered in advance came early) or long before it, the pick-up time is used instead."""
    asked, started = pl.col("asked_at"), pl.col("started_at")
    plausible = asked.is_between(started - pl.duration(hours=TRIP_HOURS_MAX), started)
    trips = with_moments(values).with_columns(requested_at=pl.when(plausible).then(asked).otherwise(started))
    return trips.select(
        request_id=request_ids(*trip_keys(values)),
        city_id=pl.lit(NEW_YORK),
        pickup_zone_id=pl.col("pickup_zone") + TLC_ZONE_OFFSET,
        dropoff_zone_id=pl.col("dropoff_zone") + TLC_ZONE_OFFSET,
        requested_at="requested_at",
        requested_local=wall_clock(pl.col("requested_at")),
        started_at="started_at",
        ended_at="ended_at",
        distance_metres="distance_metres",
        fare_cents="fare_cents",
        tip_cents="tip_cents",
    ).cast(dict(TRIPS))  # type: ignore[arg-type]


def _zones() -> set[int]:
    """The TLC's numbers of the zones in the store."""
    return {
        zone.zone_id - TLC_ZONE_OFFSET for city in cities() if city.city_id == NEW_YORK for zone in city.zones
    }
