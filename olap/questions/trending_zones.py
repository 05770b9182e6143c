"""Polars frames for trending_zones.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    local, at = pl.col("requested_local"), pl.col("at")
    today = local.dt.date() == at.dt.date()
    this_hour, four_before = pl.col("this_hour"), pl.col("four_before")
    cities = tables["cities"].select("city_id", pl.col("name").alias("city"))
    zones = tables["zones"].select("zone_id", pl.col("name").alias("zone"), "city_id")
    return (
        tables["rides"]
        .join(tables["rides"].group_by("city_id").agg(local.max().alias("at")), on="city_id")
        .filter(
            local > at - pl.duration(days=29),
            local.dt.weekday() == at.dt.weekday(),
            local.dt.hour() == at.dt.hour(),
            local.dt.minute() <= at.dt.minute(),
        )
        .group_by(pl.col("pickup_zone_id").alias("zone_id"))
        .agg(
            today.sum().cast(pl.Int64).alias("this_hour"), (~today).sum().cast(pl.Int64).alias("four_before")
        )
        .filter(this_hour > 0)
        .join(zones, on="zone_id")
        .join(cities, on="city_id")
        .sort(this_hour * 4 - four_before, "zone_id", descending=[True, False])
        .head(10)
        .select("zone_id", "zone", "city", "this_hour", (four_before / 4).alias("usual"))
    )
