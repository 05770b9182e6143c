"""Polars frames for busiest_pickup_zones.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    cities = tables["cities"].select("city_id", pl.col("name").alias("city"))
    zones = tables["zones"].join(cities, on="city_id").select("zone_id", pl.col("name").alias("zone"), "city")
    return (
        tables["rides"]
        .group_by(pl.col("pickup_zone_id").alias("zone_id"))
        .agg(pl.len().alias("requests"), pl.col("distance_metres").mean().alias("average_distance_metres"))
        .join(zones, on="zone_id")
        .sort("requests", "zone_id", descending=[True, False])
        .head(10)
        .select("zone_id", "zone", "city", "requests", "average_distance_metres")
    )
