"""Polars frames for driver_account.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], driver_id: int) -> pl.LazyFrame:
    return (
        tables["drivers"]
        .filter(pl.col("driver_id") == driver_id)
        .join(tables["accounts"].select("account_id", "balance_cents"), on="account_id")
        .sort("driver_id")
        .select("driver_id", pl.col("name").alias("driver"), "status", "balance_cents")
    )
