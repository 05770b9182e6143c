"""Polars frames for request_decision.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], request_id: str) -> pl.LazyFrame:
    return (
        tables["requests"]
        .select("request_id", "rider_id", "outcome", "ride_id", "driver_id", "fare_cents", "decided_at")
        .filter(pl.col("request_id") >= request_id)
        .sort("request_id")
        .head(1)
    )
