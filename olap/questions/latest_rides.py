"""Polars frames for latest_rides.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    return (
        tables["rides"]
        .select("ride_id", "rider_id", "driver_id", "status", "requested_at", "fare_cents")
        .sort("ride_id", descending=True)
        .head(10)
        .join(tables["riders"].select("rider_id", pl.col("username").alias("rider")), on="rider_id")
        .join(tables["drivers"].select("driver_id", pl.col("name").alias("driver")), on="driver_id")
        .sort("ride_id", descending=True)
        .select("ride_id", "rider", "driver", "status", "requested_at", "fare_cents")
    )
