"""Polars frames for top_drivers.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    cities = tables["cities"].select("city_id", pl.col("name").alias("city"))
    drivers = tables["drivers"].join(cities, on="city_id")
    is_tip = pl.col("kind") == "tip"
    return (
        tables["ledger"]
        .filter((pl.col("kind") == "pay") | is_tip)
        .group_by(pl.col("to_account_id").alias("account_id"))
        .agg(
            (~is_tip).sum().alias("paid_rides"),
            pl.col("amount_cents").sum().alias("earned_cents"),
            pl.col("amount_cents").filter(is_tip).sum().alias("tips_cents"),
        )
        .join(drivers, on="account_id")
        .sort("earned_cents", "driver_id", descending=[True, False])
        .head(10)
        .select(
            "driver_id", pl.col("name").alias("driver"), "city", "paid_rides", "earned_cents", "tips_cents"
        )
    )
