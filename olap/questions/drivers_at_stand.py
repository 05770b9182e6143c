"""Polars frames for drivers_at_stand.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], zone_id: int) -> pl.LazyFrame:
    return (
        tables["drivers"]
        .filter(pl.col("zone_id") == zone_id, pl.col("status") == "available")
        .sort("driver_id")
        .select("driver_id", pl.col("name").alias("driver"), "account_id")
    )
