"""Explains why a row is rejected: the column, its value, and the expected value."""

from collections.abc import Mapping

import polars as pl

from oltp.load.rules import FARE_CENTS_MAX, TRIP_HOURS_MAX, Reason
from oltp.load.time_forms import TIMES
from oltp.load.tlc import Layout
from oltp.load.trip_file import Batch
from oltp.load.values import NEEDED, NUMBER_MAX, ZONES, parse, read_values

EXAMPLES = 2  # of each reason
LINE = "(line)"  # instead of a column name, if the line has too few or too many fields

# EXPECTED: completes the text "expected …". COLUMNS: the meaning of the column, for reasons that have a fixed
# one.
EXPECTED = {
    Reason.MISSING_VALUE: "a value",
    Reason.REFUND: "a fare that refunds no other row of the file",
    Reason.REFUNDED: "a fare that no other row of the file refunds",
    Reason.NEGATIVE_FARE: "0 or more",
    Reason.ZERO_FARE: "more than the tip",
    Reason.IMPLAUSIBLE_FARE: f"at most {FARE_CENTS_MAX // 100:,}",
    Reason.IMPOSSIBLE_TIMES: "later than the pick-up",
    Reason.TOO_LONG: f"at most {TRIP_HOURS_MAX} hours after the pick-up",
    Reason.IN_THE_FUTURE: "a time before now",
    Reason.NO_DISTANCE: "more than 0",
    Reason.TOO_FAR: "at most 200 miles",
    Reason.TOO_FAST: "at most 100 miles per hour between pick-up and drop-off",
    Reason.UNKNOWN_ZONE: "a TLC zone, other than 264 and 265 for the pick-up",
    Reason.DUPLICATE: "a row that is no copy of another row of the file",
}
COLUMNS = {
    **dict.fromkeys((Reason.REFUND, Reason.REFUNDED, Reason.ZERO_FARE), "fare"),
    **dict.fromkeys((Reason.IMPOSSIBLE_TIMES, Reason.TOO_LONG, Reason.IN_THE_FUTURE), "dropoff"),
    **dict.fromkeys((Reason.NO_DISTANCE, Reason.TOO_FAR, Reason.TOO_FAST), "miles"),
    **dict.fromkeys((Reason.OTHER_PERIOD, Reason.DUPLICATE), "pickup"),
}


def explain(batch: Batch, layout: Layout, reasons: pl.Series, period: str) -> pl.DataFrame:
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
    culprits = _culprits(layout, money)
    rows = rows.with_columns(
        meaning=pl.coalesce(
            *(pl.when(pl.col("reason") == str(reason)).then(found) for reason, found in culprits.items())
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


def _culprits(layout: Layout, money: str) -> Mapping[Reason, pl.Expr]:
    """For each reason, the meaning of the column that caused it."""
    named = {reason: pl.lit(money if column == "fare" else column) for reason, column in COLUMNS.items()}
    unreadable = [pl.when(pl.col(f"spoilt {one}")).then(pl.lit(one)) for one in layout.names]
    missing = [pl.when(pl.col(f"null {one}")).then(pl.lit(one)) for one in NEEDED if one in layout.names]
    of_fare = {
        Reason.NEGATIVE_FARE: pl.col("tip_cents") < 0,
        Reason.IMPLAUSIBLE_FARE: pl.col("tip_cents") > FARE_CENTS_MAX,
    }
    known_pickup = pl.col("pickup_zone").is_between(1, 263)
    return named | {
        Reason.UNREADABLE: pl.coalesce(
            pl.when(pl.col("fields") > 0).then(pl.lit(LINE)), *unreadable, pl.lit(LINE)
        ),
        Reason.MISSING_VALUE: pl.coalesce(*missing),
        **{
            reason: pl.when(tip).then(pl.lit("tip")).otherwise(pl.lit(money))
            for reason, tip in of_fare.items()
        },
        Reason.UNKNOWN_ZONE: pl.when(known_pickup)
        .then(pl.lit("dropoff_zone"))
        .otherwise(pl.lit("pickup_zone")),
    }


def _expected(layout: Layout, batch: Batch, period: str) -> pl.Expr:
    time = layout.time_format or "a time such as 2019-03-13 17:49:00"
    if layout.date_order:
        time += f", or {layout.date_order} with a time"
    whole, number = "a whole number", f"a number of at most {NUMBER_MAX:,.0f}"
    wanted = {one: time if one in TIMES else whole if one in ZONES else number for one in layout.names}
    wanted[LINE] = f"{len(batch.rows.columns)} fields, as in the header"
    expected = {str(reason): words for reason, words in EXPECTED.items()}
    expected[str(Reason.OTHER_PERIOD)] = f"a time in {period or 'the period of the file'}"
    return (
        pl.when(pl.col("reason") == str(Reason.UNREADABLE))
        .then(pl.col("meaning").replace_strict(wanted, default=None))
        .otherwise(pl.col("reason").replace_strict(expected, default=None))
    )


def in_words(explained: pl.DataFrame) -> list[str]:
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
        words = in_words(explained[chosen])
        known += [f"row {number:,}: {reason}" for number, reason in zip(row[chosen], words, strict=True)]
