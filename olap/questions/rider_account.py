"""Polars frames for rider_account.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], username: str) -> pl.LazyFrame:
    return (
        tables["riders"]
        .filter(pl.col("username") == username)
        .join(tables["accounts"], on="account_id")
        .join(tables["cities"].select("city_id", pl.col("name").alias("city")), on="city_id")
        .with_columns((pl.col("balance_cents") - pl.col("held_cents")).alias("free_cents"))
        .sort("rider_id")
        .select("rider_id", "username", "city", "balance_cents", "held_cents", "free_cents")
    )
