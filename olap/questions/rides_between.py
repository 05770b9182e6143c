"""Polars frames for rides_between.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], first: int, last: int) -> pl.LazyFrame:
    return (
        tables["rides"]
        .filter(pl.col("ride_id").is_between(first, last))
        .sort("ride_id")
        .select(
            "ride_id",
            "request_id",
            "rider_id",
            "driver_id",
            "city_id",
            "requested_at",
            "status",
            "fare_cents",
        )
    )
