"""The schema of finished trips without riders and drivers, as `seed` generates them and `load` reads them.

`history` takes a Polars frame of this schema and writes it into the store.
"""

import polars as pl

TRIPS = pl.Schema(
    {
        "request_id": pl.Binary(),  # 16 bytes, a UUIDv8 that is a hash of the trip
        "city_id": pl.Int32(),
        "pickup_zone_id": pl.Int32(),
        "dropoff_zone_id": pl.Int32(),
        "requested_at": pl.Datetime("us", "UTC"),
        "requested_local": pl.Datetime("us"),  # in the city's local time
        "started_at": pl.Datetime("us", "UTC"),  # null: cancelled
        "ended_at": pl.Datetime("us", "UTC"),
        "distance_metres": pl.Int32(),
        "fare_cents": pl.Int64(),  # > 0; without the tip
        "tip_cents": pl.Int64(),  # ≥ 0
    }
)
