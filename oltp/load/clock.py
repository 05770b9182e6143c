"""Local times of New York → UTC.

The files have local times without an offset. Twice a year these are ambiguous or invalid:

- Spring: 02:00–03:00 does not exist. Such a time comes from a clock that was not put forward, so it is read
as
  standard time (UTC-5): 02:30 is 07:30 UTC, which is 03:30 in New York.
- Autumn: 01:00–02:00 exists twice. Of the readings in which the trip ends after it begins, the one with the
shortest
  trip is used; if both times are in the repeated hour, the earlier one, unless the trip would end before it
  begins.
"""

from typing import Literal

import polars as pl

Reading = Literal["earliest", "latest"]  # of a time in the repeated hour

NEW_YORK = "America/New_York"
STANDARD_OFFSET = pl.duration(hours=5)  # of New York to UTC in winter


def moment(local: pl.Expr, doubled: Reading) -> pl.Expr:
    """The UTC time of a local time."""
    known = local.dt.replace_time_zone(NEW_YORK, ambiguous=doubled, non_existent="null")
    return pl.coalesce(known.dt.convert_time_zone("UTC"), local.dt.replace_time_zone("UTC") + STANDARD_OFFSET)


def wall_clock(at: pl.Expr) -> pl.Expr:
    """The local time in New York of a UTC time."""
    return at.dt.convert_time_zone(NEW_YORK).dt.replace_time_zone(None)


def with_moments(trips: pl.DataFrame) -> pl.DataFrame:
    """Add `started_at`, `ended_at`, and `asked_at` where the file has a request time (null elsewhere)."""
    both = trips.with_columns(
        begin_first=moment(pl.col("pickup"), "earliest"),
        begin_last=moment(pl.col("pickup"), "latest"),
        end_first=moment(pl.col("dropoff"), "earliest"),
        end_last=moment(pl.col("dropoff"), "latest"),
    )
    end_is_doubled = pl.col("end_first") != pl.col("end_last")
    begins_late = ~end_is_doubled & (pl.col("begin_last") < pl.col("end_first"))
    placed = both.with_columns(
        started_at=pl.when(begins_late).then("begin_last").otherwise("begin_first"),
        ended_at=pl.when(pl.col("end_first") > pl.col("begin_first")).then("end_first").otherwise("end_last"),
    )
    if "request" in trips.columns:
        early, late = moment(pl.col("request"), "earliest"), moment(pl.col("request"), "latest")
        asked = pl.when(late <= pl.col("started_at")).then(late).otherwise(early)
        placed = placed.with_columns(asked_at=asked)
    else:
        placed = placed.with_columns(asked_at=pl.lit(None, dtype=pl.Datetime("us", "UTC")))
    return placed.drop("begin_first", "begin_last", "end_first", "end_last")
