"""Polars frames for newest_ride.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    newest = tables["rides"].select(pl.col("ride_id").max())
    zones = tables["zones"]
    return (
        tables["rides"]
        .join(newest, on="ride_id")
        .join(tables["riders"].select("rider_id", pl.col("username").alias("rider")), on="rider_id")
        .join(tables["drivers"].select("driver_id", pl.col("name").alias("driver")), on="driver_id")
        .join(
            zones.select(pl.col("zone_id").alias("pickup_zone_id"), pl.col("name").alias("pickup")),
            on="pickup_zone_id",
        )
        .join(
            zones.select(pl.col("zone_id").alias("dropoff_zone_id"), pl.col("name").alias("dropoff")),
            on="dropoff_zone_id",
        )
        .join(tables["payments"].select("ride_id", pl.col("status").alias("payment")), on="ride_id")
        .sort("ride_id")
        .select(
            "ride_id",
            "rider",
            "driver",
            "pickup",
            "dropoff",
            "requested_at",
            "status",
            "fare_cents",
            "payment",
        )
    )
