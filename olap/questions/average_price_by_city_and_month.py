"""Polars frames for average_price_by_city_and_month.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    return (
        tables["rides"]
        .filter(pl.col("status") == "completed")
        .group_by("city_id", pl.col("requested_local").dt.strftime("%B").alias("month"))
        .agg(pl.len().alias("rides"), (pl.col("fare_cents").mean() / 100).alias("average_price"))
        .join(tables["cities"].select("city_id", pl.col("name").alias("city")), on="city_id")
        .select("city", "month", "rides", "average_price")
        .sort("rides", "city", "month", descending=[True, False, False])
    )
