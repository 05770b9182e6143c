"""A finished trip, before it has a rider and a driver: what `seed` makes up and `load` reads from files.

Both give a Polars frame of this shape to `history`, which puts it into the store.
"""

import polars as pl

TRIPS = pl.Schema(
    {
        "request_id": pl.Binary(),  # 16 bytes, a UUIDv8 made from the trip: the same trip, the same id
        "city_id": pl.Int32(),
        "pickup_zone_id": pl.Int32(),
        "dropoff_zone_id": pl.Int32(),
        "requested_at": pl.Datetime("us", "UTC"),
        "requested_local": pl.Datetime("us"),  # the city's wall clock
        "started_at": pl.Datetime("us", "UTC"),  # null: cancelled before it began
        "ended_at": pl.Datetime("us", "UTC"),
        "distance_metres": pl.Int32(),
        "fare_cents": pl.Int64(),  # > 0; without the tip
        "tip_cents": pl.Int64(),  # ≥ 0
    }
)
