"""Polars frames for repeat_riders.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    rides, fares_cents = pl.col("rides"), pl.col("fares_cents")
    rides_taken = (
        pl.when(rides == 1)
        .then(pl.lit("one"))
        .when(rides < 5)
        .then(pl.lit("two to four"))
        .when(rides < 10)
        .then(pl.lit("five to nine"))
        .otherwise(pl.lit("ten and more"))
    )
    return (
        tables["rides"]
        .filter(pl.col("status") == "completed")
        .group_by("rider_id")
        .agg(pl.len().cast(pl.Int64).alias("rides"), pl.col("fare_cents").sum().alias("fares_cents"))
        .group_by(rides_taken.alias("rides_taken"))
        .agg(
            rides.min().alias("fewest"),
            pl.len().alias("riders"),
            rides.sum(),
            fares_cents.sum(),
        )
        .with_columns((fares_cents / fares_cents.sum()).alias("share_of_fares"))
        .sort("fewest")
        .drop("fewest")
    )
