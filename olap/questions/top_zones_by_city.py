"""Polars frames for top_zones_by_city.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    place = pl.int_range(1, pl.len() + 1).over("city_id")
    return (
        tables["rides"]
        .filter(pl.col("status") == "completed")
        .group_by("city_id", pl.col("dropoff_zone_id").alias("zone_id"))
        .agg(pl.len().alias("rides"), pl.col("fare_cents").sum().alias("fares_cents"))
        .sort("city_id", "fares_cents", "zone_id", descending=[False, True, False])
        .with_columns(place.alias("place"))
        .filter(pl.col("place") <= 3)
        .join(tables["cities"].select("city_id", pl.col("name").alias("city")), on="city_id")
        .join(tables["zones"].select("zone_id", pl.col("name").alias("zone")), on="zone_id")
        .sort("city_id", "place")
        .select("city", "place", "zone", "rides", "fares_cents")
    )
