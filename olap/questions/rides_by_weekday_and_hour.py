"""Polars frames for rides_by_weekday_and_hour.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    return (
        tables["rides"]
        .group_by(
            pl.col("requested_local").dt.weekday().alias("weekday"),
            pl.col("requested_local").dt.hour().alias("hour"),
        )
        .agg(pl.len().alias("requests"), (pl.col("status") == "completed").sum().alias("completed"))
        .sort("weekday", "hour")
    )
