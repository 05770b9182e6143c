"""Polars frames for cancellation_share.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    return (
        tables["rides"]
        .group_by("city_id")
        .agg(pl.len().alias("rides"), (pl.col("status") == "cancelled").sum().alias("cancelled"))
        .with_columns((pl.col("cancelled") / pl.col("rides")).alias("cancelled_share"))
        .join(tables["cities"].select("city_id", pl.col("name").alias("city")), on="city_id")
        .sort("cancelled_share", "city_id", descending=[True, False])
        .select("city", "rides", "cancelled", "cancelled_share")
    )
