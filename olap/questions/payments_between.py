"""Polars frames for payments_between.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], first: int, last: int) -> pl.LazyFrame:
    return (
        tables["payments"]
        .filter(pl.col("ride_id").is_between(first, last))
        .sort("ride_id")
        .select("ride_id", "status", "held_cents", "captured_cents", "tip_cents")
    )
