"""Polars frames for request_funnel.sql."""

from collections.abc import Mapping

import polars as pl

STEPS = ("assigned", "started", "completed", "paid")


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    cities = tables["cities"].select("city_id", pl.col("name").alias("city"))
    zones = tables["zones"].select(pl.col("zone_id").alias("pickup_zone_id"), "city_id")
    payments = tables["payments"].select("ride_id", pl.col("status").alias("payment"))
    completed = pl.col("status") == "completed"
    rides = (
        tables["rides"]
        .join(payments, on="ride_id", how="left")
        .select(
            "pickup_zone_id",
            pl.lit(True).alias("assigned"),
            pl.col("started_at").is_not_null().alias("started"),
            completed.alias("completed"),
            (completed & (pl.col("payment") == "captured")).fill_null(False).alias("paid"),
        )
    )
    refused = (
        tables["requests"]
        .filter(pl.col("outcome") != "assigned")
        .select("pickup_zone_id", *(pl.lit(False).alias(step) for step in STEPS))
    )
    return (
        pl.concat([rides, refused])
        .join(zones, on="pickup_zone_id")
        .group_by("city_id")
        .agg(pl.len().alias("requested"), *(pl.col(step).sum() for step in STEPS))
        .join(cities, on="city_id")
        .sort("city_id")
        .select("city", "requested", *STEPS)
    )
