"""Polars frames for tip_share.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    return (
        tables["payments"]
        .filter(pl.col("status") == "captured")
        .join(tables["rides"].select("ride_id", "city_id"), on="ride_id")
        .group_by("city_id")
        .agg(
            pl.len().alias("paid_rides"),
            (pl.col("tip_cents") > 0).sum().alias("tipped_rides"),
            pl.col("tip_cents").sum().alias("tips_cents"),
            (pl.col("tip_cents").sum() / pl.col("captured_cents").sum()).alias("tips_of_fares"),
        )
        .join(tables["cities"].select("city_id", pl.col("name").alias("city")), on="city_id")
        .sort("city_id")
        .select("city", "paid_rides", "tipped_rides", "tips_cents", "tips_of_fares")
    )
