"""Wall clocks of New York → moments.

The files tell wall-clock time without an offset. Twice a year that is not enough:

- Spring: 02:00–03:00 does not exist. Who wrote it had not put the clock forward, so it is standard time
  (UTC-5): 02:30 is 07:30 UTC, and the city's clock showed 03:30.
- Autumn: 01:00–02:00 exists twice. Of the readings that let the trip end after it began, the one with
  the shortest trip holds; if both times are in the doubled hour, the earlier one unless the trip would run
  backwards.
"""

from typing import Literal

import polars as pl

Reading = Literal["earliest", "latest"]  # of the hour that exists twice

NEW_YORK = "America/New_York"
STANDARD_OFFSET = pl.duration(hours=5)  # what New York's wall clock is behind UTC in winter


def moment(local: pl.Expr, doubled: Reading) -> pl.Expr:
    """The UTC moment of a wall-clock time."""
    known = local.dt.replace_time_zone(NEW_YORK, ambiguous=doubled, non_existent="null")
    return pl.coalesce(known.dt.convert_time_zone("UTC"), local.dt.replace_time_zone("UTC") + STANDARD_OFFSET)


def wall_clock(at: pl.Expr) -> pl.Expr:
    """What New York's clocks showed at a UTC moment."""
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
