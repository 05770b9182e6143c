"""Polars frames for rider_sessions.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    requested_at = pl.col("requested_at")
    goes_on = requested_at <= requested_at.shift(1).over("rider_id") + pl.duration(minutes=30)
    begins = ~goes_on.fill_null(False)
    return (
        tables["rides"]
        .select("rider_id", "ride_id", "requested_at")
        .sort("rider_id", "requested_at", "ride_id")
        .with_columns(begins.cast(pl.Int64).alias("begins"))
        .with_columns(pl.col("begins").cum_sum().over("rider_id").alias("session"))
        .group_by("rider_id", "session")
        .agg(pl.len().alias("rides_in_session"))
        .group_by("rides_in_session")
        .agg(pl.len().alias("sessions"), pl.col("rider_id").n_unique().alias("riders"))
        .sort("rides_in_session")
    )
