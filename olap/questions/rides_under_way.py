"""Polars frames for rides_under_way.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    zones = tables["zones"].select(pl.col("zone_id").alias("pickup_zone_id"), pl.col("name").alias("pickup"))
    return (
        tables["rides"]
        .filter((pl.col("status") == "assigned") | (pl.col("status") == "started"))
        .join(tables["drivers"].select("driver_id", pl.col("name").alias("driver")), on="driver_id")
        .join(tables["riders"].select("rider_id", pl.col("username").alias("rider")), on="rider_id")
        .join(zones, on="pickup_zone_id")
        .sort("ride_id")
        .select("ride_id", "status", "driver", "rider", "pickup", "requested_at")
    )
