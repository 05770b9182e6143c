"""Polars frames for revenue_growth.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    local, fares_cents = pl.col("requested_local"), pl.col("fares_cents")
    return (
        tables["rides"]
        .filter(pl.col("status") == "completed")
        .group_by("city_id", local.dt.year().alias("year"), local.dt.month().alias("month"))
        .agg(pl.col("fare_cents").sum().alias("fares_cents"))
        .sort("city_id", "year", "month")
        .with_columns(
            (fares_cents - fares_cents.shift(1)).over("city_id").alias("change_cents"),
            fares_cents.cum_sum().over("city_id").alias("so_far_cents"),
        )
        .join(tables["cities"].select("city_id", pl.col("name").alias("city")), on="city_id")
        .sort("city_id", "year", "month")
        .select("city", "year", "month", "fares_cents", "change_cents", "so_far_cents")
    )
