"""Polars frames for stand_fleet.sql."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], zone_id: int) -> pl.LazyFrame:
    return (
        tables["drivers"]
        .filter(pl.col("zone_id") == zone_id)
        .group_by("status")
        .agg(pl.len().cast(pl.Int64).alias("drivers"))
        .sort("status")
    )
