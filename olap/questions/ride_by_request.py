"""Polars frames for ride_by_request.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], request_id: str) -> pl.LazyFrame:
    return (
        tables["rides"]
        .select("request_id", "ride_id", "rider_id", "driver_id", "requested_at", "status", "fare_cents")
        .filter(pl.col("request_id") >= request_id)
        .sort("request_id")
        .head(1)
    )
