"""Polars frames for price_by_distance.sql: a fact table of 40 columns, of which four are used."""

from collections.abc import Mapping

import polars as pl


def answer(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    metres, fares_cents = pl.col("distance_metres"), pl.col("fares_cents")
    from_km = (
        pl.when(metres < 2_000)
        .then(0)
        .when(metres < 5_000)
        .then(2)
        .when(metres < 10_000)
        .then(5)
        .when(metres < 20_000)
        .then(10)
        .otherwise(20)
    )
    return (
        facts(tables)
        .filter(pl.col("status") == "completed")
        .group_by("city_id", from_km.alias("from_km"))
        .agg(
            pl.len().alias("rides"),
            metres.cast(pl.Int64).sum(),
            pl.col("fare_cents").sum().alias("fares_cents"),
        )
        .with_columns(
            pl.when(metres > 0).then(fares_cents.cast(pl.Float64) * 1000 / metres).alias("cents_per_km")
        )
        .sort("city_id", "from_km")
    )


def facts(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """Rides joined with all other tables (a star schema), with the column names of the SQL."""
    zones = tables["zones"].select("zone_id", "name", "city_id")
    payments = tables["payments"].rename({"status": "payment_status"}).drop("tx", strict=False)
    riders = _named(tables["riders"], "rider", {"username": "rider"})
    drivers = _named(tables["drivers"], "driver", {"name": "driver"})
    cities = tables["cities"].select("city_id", pl.col("name").alias("city"), "time_zone")
    return (
        tables["rides"]
        .drop("tx", strict=False)
        .join(payments, on="ride_id", how="left")
        .join(riders, on="rider_id", how="left")
        .join(drivers, on="driver_id", how="left")
        .join(cities, on="city_id", how="left")
        .join(_named(zones, "pickup", {"name": "pickup"}), on="pickup_zone_id", how="left")
        .join(_named(zones, "dropoff", {"name": "dropoff"}), on="dropoff_zone_id", how="left")
        .join(_as_requested(tables["requests"]), on="request_id", how="left")
    )


def _named(frame: pl.LazyFrame, prefix: str, names: Mapping[str, str]) -> pl.LazyFrame:
    """Prefix the columns (city_id becomes driver_city_id), except the key and the columns in `names`."""
    key = f"{prefix}_id"

    def name(column: str) -> str:
        return names.get(column) or (column if column == key else f"{prefix}_{column}")

    return frame.drop("tx", strict=False).rename(name)


def _as_requested(requests: pl.LazyFrame) -> pl.LazyFrame:
    """The requested values, prefixed with asked_, because the values of the ride can differ."""
    twins = ("fare_cents", "distance_metres", "pickup_zone_id", "dropoff_zone_id")
    asked = requests.select("request_id", "outcome", "decided_at", *twins)
    return asked.rename({name: f"asked_{name}" for name in twins})
