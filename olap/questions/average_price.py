"""Polars frames for average_price.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    stanford = tables["cities"].filter(pl.col("name") == "Stanford").select("city_id")
    return (
        tables["rides"]
        .filter(pl.col("status") == "completed", pl.col("requested_local").dt.month() == 7)
        .join(stanford, on="city_id")
        .select((pl.col("fare_cents").mean() / 100).alias("average_price"))
    )
