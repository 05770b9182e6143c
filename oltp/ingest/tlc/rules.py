"""The rules that a trip must meet. A rejected row has one reason: the first rule that it breaks.

    alone       reasons that depend only on the row (`judge_alone`)
    together    reasons that depend on other rows of the file (`judge_together`): refunds, the month, copies

Refunds. The TLC records a refund as a second row with the same vendor, times, zones and distance and the
negative amounts. Both rows are rejected, so the sum of the loaded fares is the amount that was earned. Rows
are paired one to one: of a trip that is charged twice and refunded once, one row is loaded. A negative row
whose trip is in another file is rejected alone (`negative_fare`).
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import numpy as np
import polars as pl

from oltp.ingest.history import TRIPS
from oltp.ingest.tlc.times import TIMES, local_time, with_utc_times
from oltp.ingest.tlc.trip_file import TripBatch, TripLayout
from oltp.ingest.tlc.values import NEEDED, NUMBER_MAX, ZONES, parse, read_values, request_ids, trip_keys
from oltp.places import NEW_YORK, TLC_UNKNOWN_ZONES, TLC_ZONE_OFFSET, cities


class RejectReason(StrEnum):
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
    RejectReason.UNREADABLE: "has an invalid number or time, or too few or too many fields",
    RejectReason.MISSING_VALUE: "lacks a time, a zone, the distance or the fare",
    RejectReason.REFUND: "refunds a trip of the same file",
    RejectReason.REFUNDED: "is a trip that was refunded",
    RejectReason.NEGATIVE_FARE: "has a negative fare or tip, and refunds no trip of the file",
    RejectReason.ZERO_FARE: "has a fare of 0",
    RejectReason.IMPLAUSIBLE_FARE: f"has a fare or tip above ${FARE_CENTS_MAX // 100:,}",
    RejectReason.IMPOSSIBLE_TIMES: "does not end after it begins",
    RejectReason.TOO_LONG: f"lasts more than {TRIP_HOURS_MAX} hours",
    RejectReason.IN_THE_FUTURE: "ends in the future",
    RejectReason.NO_DISTANCE: "has a distance of 0 or less",
    RejectReason.TOO_FAR: "is longer than 200 miles",
    RejectReason.TOO_FAST: "is faster than 100 miles per hour",
    RejectReason.UNKNOWN_ZONE: "begins in zone 264 or 265 (unknown, outside), or in an unknown zone",
    RejectReason.OTHER_PERIOD: "begins outside of the month or year of the file",
    RejectReason.DUPLICATE: "is a copy of another row of the file",
    RejectReason.ALREADY_LOADED: "is already in the store",
}

GOOD = 0
CODE = {reason: code for code, reason in enumerate(RejectReason, start=1)}  # one byte per row

# What the first pass keeps of a row. `sign`: +1 for a trip that can be refunded, -1 for a refund, 0 for
# others. `month`: year × 12 + month of the pick-up, -1 if unknown.
VERDICT_SCHEMA = pl.Schema(
    {"upper": pl.UInt64, "lower": pl.UInt64, "sign": pl.Int8, "month": pl.Int32, "verdict": pl.UInt8}
)


def judge_alone(values: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """A frame of schema JUDGED: the keys of the rows, and as verdict the first reason that depends on the row
    only."""
    fare, tip = pl.col("fare_cents"), pl.col("tip_cents")
    lasted = pl.col("ended_at") - pl.col("started_at")
    metres = pl.col("distance_metres")
    tests = {
        RejectReason.UNREADABLE: pl.col("unreadable"),
        RejectReason.MISSING_VALUE: pl.col("incomplete"),
        RejectReason.NEGATIVE_FARE: (fare < 0) | (tip < 0),
        RejectReason.ZERO_FARE: fare == 0,
        RejectReason.IMPLAUSIBLE_FARE: (fare > FARE_CENTS_MAX) | (tip > FARE_CENTS_MAX),
        RejectReason.IMPOSSIBLE_TIMES: lasted <= pl.duration(),
        RejectReason.TOO_LONG: lasted > pl.duration(hours=TRIP_HOURS_MAX),
        RejectReason.IN_THE_FUTURE: pl.col("ended_at") > now,
        RejectReason.NO_DISTANCE: metres <= 0,
        RejectReason.TOO_FAR: metres > TRIP_METRES_MAX,
        RejectReason.TOO_FAST: metres > lasted.dt.total_microseconds() * (SPEED_MAX / 1e6),
        RejectReason.UNKNOWN_ZONE: ~pl.col("pickup_zone").is_in(_zones() - set(TLC_UNKNOWN_ZONES))
        | ~pl.col("dropoff_zone").is_in(_zones()),
    }
    verdict = pl.coalesce(
        *(pl.when(test).then(pl.lit(CODE[reason], dtype=pl.UInt8)) for reason, test in tests.items()),
        pl.lit(GOOD, dtype=pl.UInt8),
    )
    legible = ~(pl.col("unreadable") | pl.col("incomplete"))
    pickup = pl.col("pickup").dt
    upper, lower = trip_keys(values)
    return with_utc_times(values).select(
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
        .then(pl.lit(CODE[RejectReason.OTHER_PERIOD], dtype=pl.UInt8))
        .otherwise(verdict)
    )
    # Only the few rows that share one half of the key are compared in full.
    half = np.sort(rows.filter(verdict == GOOD)["upper"].to_numpy())
    shared = pl.Series(half[1:][half[1:] == half[:-1]]).implode()
    alike = rows.with_row_index("row").filter(verdict.eq(GOOD) & pl.col("upper").is_in(shared))
    copies = alike.filter(~pl.struct("upper", "lower").is_first_distinct())["row"]
    return rows["verdict"].scatter(copies, CODE[RejectReason.DUPLICATE])


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
    verdict = verdict.scatter(pairs["row"], CODE[RejectReason.REFUND])
    return verdict.scatter(pairs["row_right"], CODE[RejectReason.REFUNDED])


def as_trips(values: pl.DataFrame) -> pl.DataFrame:
    """Accepted rows as a frame of schema TRIPS.

    If the request time is missing (taxis are hailed), after the pick-up (the driver of a ride that was
    ordered in advance came early) or long before it, the pick-up time is used instead."""
    asked, started = pl.col("asked_at"), pl.col("started_at")
    plausible = asked.is_between(started - pl.duration(hours=TRIP_HOURS_MAX), started)
    trips = with_utc_times(values).with_columns(
        requested_at=pl.when(plausible).then(asked).otherwise(started)
    )
    return trips.select(
        request_id=request_ids(*trip_keys(values)),
        city_id=pl.lit(NEW_YORK),
        pickup_zone_id=pl.col("pickup_zone") + TLC_ZONE_OFFSET,
        dropoff_zone_id=pl.col("dropoff_zone") + TLC_ZONE_OFFSET,
        requested_at="requested_at",
        requested_local=local_time(pl.col("requested_at")),
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


EXAMPLES = 2  # rows shown per reason
LINE = "(line)"  # instead of a column name, if the line has too few or too many fields

# EXPECTED completes the text "expected …". COLUMNS has the meaning of the column, for reasons with a fixed
# one.
EXPECTED = {
    RejectReason.MISSING_VALUE: "a value",
    RejectReason.REFUND: "a fare that refunds no other row of the file",
    RejectReason.REFUNDED: "a fare that no other row of the file refunds",
    RejectReason.NEGATIVE_FARE: "0 or more",
    RejectReason.ZERO_FARE: "more than the tip",
    RejectReason.IMPLAUSIBLE_FARE: f"at most {FARE_CENTS_MAX // 100:,}",
    RejectReason.IMPOSSIBLE_TIMES: "later than the pick-up",
    RejectReason.TOO_LONG: f"at most {TRIP_HOURS_MAX} hours after the pick-up",
    RejectReason.IN_THE_FUTURE: "a time before now",
    RejectReason.NO_DISTANCE: "more than 0",
    RejectReason.TOO_FAR: "at most 200 miles",
    RejectReason.TOO_FAST: "at most 100 miles per hour between pick-up and drop-off",
    RejectReason.UNKNOWN_ZONE: "a TLC zone, other than 264 and 265 for the pick-up",
    RejectReason.DUPLICATE: "a row that is no copy of another row of the file",
}
COLUMNS = {
    **dict.fromkeys((RejectReason.REFUND, RejectReason.REFUNDED, RejectReason.ZERO_FARE), "fare"),
    **dict.fromkeys(
        (RejectReason.IMPOSSIBLE_TIMES, RejectReason.TOO_LONG, RejectReason.IN_THE_FUTURE), "dropoff"
    ),
    **dict.fromkeys((RejectReason.NO_DISTANCE, RejectReason.TOO_FAR, RejectReason.TOO_FAST), "miles"),
    **dict.fromkeys((RejectReason.OTHER_PERIOD, RejectReason.DUPLICATE), "pickup"),
}


def explain(batch: TripBatch, layout: TripLayout, reasons: pl.Series, period: str) -> pl.DataFrame:
    """The columns `column`, `value` and `expected` for a batch of rejected rows."""
    read, spoilt = parse(batch, layout)
    money = "total" if "total" in layout.names else "base_fare"
    rows = pl.DataFrame(
        {
            "reason": reasons,
            "fields": batch.malformed
            if batch.malformed is not None
            else pl.repeat(0, len(reasons), eager=True),
            **{f"raw {meaning}": batch.rows[name].cast(pl.String) for meaning, name in layout.names.items()},
            **{f"spoilt {meaning}": column for meaning, column in spoilt.items()},
            **{f"null {meaning}": read[meaning].is_null() for meaning in NEEDED if meaning in read},
            **{name: read_values(batch, layout)[name] for name in ("fare_cents", "tip_cents", *ZONES)},
        }
    )
    causes = _cause_columns(layout, money)
    rows = rows.with_columns(
        meaning=pl.coalesce(
            *(pl.when(pl.col("reason") == str(reason)).then(found) for reason, found in causes.items())
        )
    )
    return rows.select(
        column=pl.col("meaning").replace_strict({**layout.names, LINE: LINE}, default=None),
        value=pl.coalesce(
            pl.when(pl.col("meaning") == LINE).then(pl.format("{} fields", "fields")),
            *(pl.when(pl.col("meaning") == one).then(f"raw {one}") for one in layout.names),
        ).fill_null(""),
        expected=_expected(layout, batch, period),
    )


def _cause_columns(layout: TripLayout, money: str) -> Mapping[RejectReason, pl.Expr]:
    """For each reason, the meaning of the column that caused it."""
    named = {reason: pl.lit(money if column == "fare" else column) for reason, column in COLUMNS.items()}
    unreadable = [pl.when(pl.col(f"spoilt {one}")).then(pl.lit(one)) for one in layout.names]
    missing = [pl.when(pl.col(f"null {one}")).then(pl.lit(one)) for one in NEEDED if one in layout.names]
    of_fare = {
        RejectReason.NEGATIVE_FARE: pl.col("tip_cents") < 0,
        RejectReason.IMPLAUSIBLE_FARE: pl.col("tip_cents") > FARE_CENTS_MAX,
    }
    known_pickup = pl.col("pickup_zone").is_between(1, 263)
    return named | {
        RejectReason.UNREADABLE: pl.coalesce(
            pl.when(pl.col("fields") > 0).then(pl.lit(LINE)), *unreadable, pl.lit(LINE)
        ),
        RejectReason.MISSING_VALUE: pl.coalesce(*missing),
        **{
            reason: pl.when(tip).then(pl.lit("tip")).otherwise(pl.lit(money))
            for reason, tip in of_fare.items()
        },
        RejectReason.UNKNOWN_ZONE: pl.when(known_pickup)
        .then(pl.lit("dropoff_zone"))
        .otherwise(pl.lit("pickup_zone")),
    }


def _expected(layout: TripLayout, batch: TripBatch, period: str) -> pl.Expr:
    time = layout.time_format or "a time such as 2019-03-13 17:49:00"
    if layout.date_order:
        time += f", or {layout.date_order} with a time"
    whole, number = "a whole number", f"a number of at most {NUMBER_MAX:,.0f}"
    wanted = {one: time if one in TIMES else whole if one in ZONES else number for one in layout.names}
    wanted[LINE] = f"{len(batch.rows.columns)} fields, as in the header"
    expected = {str(reason): words for reason, words in EXPECTED.items()}
    expected[str(RejectReason.OTHER_PERIOD)] = f"a time in {period or 'the period of the file'}"
    return (
        pl.when(pl.col("reason") == str(RejectReason.UNREADABLE))
        .then(pl.col("meaning").replace_strict(wanted, default=None))
        .otherwise(pl.col("reason").replace_strict(expected, default=None))
    )


def format_explanations(explained: pl.DataFrame) -> list[str]:
    """Texts such as `trip_distance is '0.0', expected more than 0`."""
    return [
        f"{row['column']} has {row['value']}, expected {row['expected']}"
        if row["column"] == LINE
        else f"{row['column']} is '{row['value']}', expected {row['expected']}"
        for row in explained.iter_rows(named=True)
    ]


def add_examples(
    examples: dict[str, list[str]], reasons: pl.Series, explained: pl.DataFrame, row: pl.Series
) -> None:
    """Add rows to `examples`, up to EXAMPLES for each reason."""
    for reason in reasons.unique(maintain_order=True).to_list():
        known = examples.setdefault(reason, [])
        chosen = reasons.eq(reason).arg_true().head(EXAMPLES - len(known))
        words = format_explanations(explained[chosen])
        known += [f"row {number:,}: {reason}" for number, reason in zip(row[chosen], words, strict=True)]
