"""Polars frames for fare_percentiles.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    def percentile(tenths: int) -> pl.Expr:
        place = (pl.len().cast(pl.Int64) * tenths + 9) // 10  # ceil(tenths / 10 * n), counted from 1
        return pl.col("fare_cents").sort().get(place - 1)

    return (
        tables["rides"]
        .filter(pl.col("status") == "completed")
        .group_by("city_id")
        .agg(
            pl.len().alias("rides"),
            percentile(5).alias("median_fare_cents"),
            percentile(9).alias("p90_fare_cents"),
        )
        .join(tables["cities"].select("city_id", pl.col("name").alias("city")), on="city_id")
        .sort("city_id")
        .select("city", "rides", "median_fare_cents", "p90_fare_cents")
    )
