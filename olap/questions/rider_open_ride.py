"""Polars frames for rider_open_ride.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], rider_id: int) -> pl.LazyFrame:
    status = pl.col("status")
    zones = tables["zones"].select(pl.col("zone_id").alias("pickup_zone_id"), pl.col("name").alias("pickup"))
    return (
        tables["rides"]
        .filter(pl.col("rider_id") == rider_id, (status == "assigned") | (status == "started"))
        .join(tables["drivers"].select("driver_id", pl.col("name").alias("driver")), on="driver_id")
        .join(zones, on="pickup_zone_id")
        .join(tables["payments"].select("ride_id", "held_cents"), on="ride_id")
        .sort("ride_id")
        .select("ride_id", "status", "driver", "pickup", "assigned_at", "held_cents")
    )
