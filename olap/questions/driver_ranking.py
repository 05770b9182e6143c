"""Polars frames for driver_ranking.sql."""

from collections.abc import Mapping
from decimal import Decimal

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame], alpha: Decimal | float, beta: Decimal | float) -> pl.LazyFrame:
    completed, quality, engagement = pl.col("completed"), pl.col("quality"), pl.col("engagement")
    status = pl.col("status")
    return (
        tables["rides"]
        .filter((status == "completed") | (status == "cancelled"))
        .group_by("city_id", "driver_id")
        .agg(
            pl.len().cast(pl.Int64).alias("ended"),
            (pl.col("cancel_reason") == "driver").sum().cast(pl.Int64).alias("cancelled_by_driver"),
            (status == "completed").sum().cast(pl.Int64).alias("completed"),
        )
        .with_columns(
            ((pl.col("ended") - pl.col("cancelled_by_driver")) / pl.col("ended")).alias("quality"),
            pl.when(completed == 0)
            .then(0.0)
            .otherwise(completed / completed.max().over("city_id"))
            .alias("engagement"),
        )
        .with_columns((float(alpha) * quality + float(beta) * engagement).alias("score"))
        .join(tables["drivers"].select("driver_id", pl.col("name").alias("driver")), on="driver_id")
        .join(tables["cities"].select("city_id", pl.col("name").alias("city")), on="city_id")
        .sort("score", "driver_id", descending=[True, False])
        .head(20)
        .select("driver_id", "driver", "city", "completed", "quality", "engagement", "score")
    )
