"""Polars frames for driver_open_ride.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], driver_id: int) -> pl.LazyFrame:
    status = pl.col("status")
    open_rides = (
        tables["rides"]
        .filter(pl.col("driver_id") == driver_id, (status == "assigned") | (status == "started"))
        .select("driver_id", "ride_id", status.alias("ride_status"), "requested_at", "dropoff_zone_id")
    )
    return (
        tables["drivers"]
        .filter(pl.col("driver_id") == driver_id)
        .join(open_rides, on="driver_id", how="left")
        .sort("driver_id")
        .select(
            "driver_id",
            pl.col("name").alias("driver"),
            "status",
            "ride_id",
            "ride_status",
            "requested_at",
            "dropoff_zone_id",
        )
    )
