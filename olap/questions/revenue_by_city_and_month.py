"""Polars frames for revenue_by_city_and_month.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    commission = tables["ledger"].filter(pl.col("kind") == "commission").select("ride_id", "amount_cents")
    return (
        tables["rides"]
        .filter(pl.col("status") == "completed")
        .join(commission, on="ride_id", how="left")
        .group_by(
            pl.col("requested_local").dt.year().alias("year"),
            pl.col("requested_local").dt.month().alias("month"),
            "city_id",
        )
        .agg(
            pl.len().alias("rides"),
            pl.col("fare_cents").sum().alias("fares_cents"),
            pl.col("amount_cents").sum().alias("commission_cents"),
        )
        .join(tables["cities"].select("city_id", pl.col("name").alias("city")), on="city_id")
        .sort("year", "month", "city_id")
        .select("year", "month", "city", "rides", "fares_cents", "commission_cents")
    )
