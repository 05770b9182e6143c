"""Polars frames for ride_by_id.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], ride_id: int) -> pl.LazyFrame:
    payments = tables["payments"].select(
        "ride_id", pl.col("status").alias("payment"), "captured_cents", "tip_cents"
    )
    return (
        tables["rides"]
        .filter(pl.col("ride_id") == ride_id)
        .join(tables["riders"].select("rider_id", pl.col("username").alias("rider")), on="rider_id")
        .join(tables["drivers"].select("driver_id", pl.col("name").alias("driver")), on="driver_id")
        .join(payments, on="ride_id")
        .sort("ride_id")
        .select(
            "ride_id",
            "status",
            "cancel_reason",
            "rider",
            "driver",
            "requested_at",
            "ended_at",
            "fare_cents",
            "payment",
            "captured_cents",
            "tip_cents",
        )
    )
