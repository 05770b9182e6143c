"""A generated file of taxi trips with bad rows, as in real files: one row in a hundred is bad."""

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from oltp.city import draw_shape, draw_tips, draw_zones
from oltp.places import NEW_YORK, TLC_UNKNOWN_ZONES, TLC_ZONE_OFFSET, cities

BEGIN = datetime(2025, 7, 1)  # two months without a change of daylight saving time
SECONDS = 62 * 24 * 3600
METRES_PER_MILE = 1609.344
CENTS_MIN = 400
DIRTY_EVERY = 100
COLUMNS = (
    *("VendorID", "tpep_pickup_datetime", "tpep_dropoff_datetime", "trip_distance"),
    *("PULocationID", "DOLocationID", "tip_amount", "total_amount"),
)
# The fields that are overwritten in a bad row; None: the row is a copy of the previous one.
DIRT = (
    {"total_amount": "-12.50", "tip_amount": "0.00"},
    {"total_amount": "twelve"},
    {"tpep_pickup_datetime": ""},
    {"trip_distance": "0.00"},
    {"tpep_dropoff_datetime": "2025-06-30 12:00:00"},
    {"PULocationID": str(TLC_UNKNOWN_ZONES[0])},
    None,
)


def write_dirty_trips(path: Path, rows: int, seed: int) -> None:
    """Write a header and `rows` lines, with the columns of the TLC's files of yellow taxis."""
    random = np.random.default_rng(seed)
    shape = draw_shape(random, rows)
    city = next(city for city in cities() if city.city_id == NEW_YORK)
    tips = draw_tips(random, rows)
    pickup = pl.Series([BEGIN]).dt.epoch("s").item() + random.integers(0, SECONDS, rows)
    trips = pl.DataFrame(
        {
            "VendorID": np.where(random.random(rows) < 0.3, 1, 2),
            "tpep_pickup_datetime": pickup,
            "tpep_dropoff_datetime": pickup + shape.duration_seconds,
            "trip_distance": np.round(shape.distance_metres / METRES_PER_MILE, 2),
            "PULocationID": draw_zones(random, city, rows) - TLC_ZONE_OFFSET,
            "DOLocationID": draw_zones(random, city, rows) - TLC_ZONE_OFFSET,
            "tip_amount": tips / 100,
            "total_amount": (np.maximum(shape.fare_cents, CENTS_MIN) + tips) / 100,
        }
    )
    moments = pl.from_epoch(pl.col("tpep_pickup_datetime", "tpep_dropoff_datetime"))
    texts = trips.with_columns(moments.dt.strftime("%Y-%m-%d %H:%M:%S")).cast(pl.String)
    _with_bad_rows(texts).select(COLUMNS).write_csv(path)


def _with_bad_rows(texts: pl.DataFrame) -> pl.DataFrame:
    dirty = np.arange(DIRTY_EVERY, len(texts), DIRTY_EVERY)
    columns = {name: texts[name].to_list() for name in texts.columns}
    for number, row in enumerate(dirty.tolist()):
        overwritten = DIRT[number % len(DIRT)]
        if overwritten is None:
            overwritten = {name: values[row - 1] for name, values in columns.items()}
        for name, value in overwritten.items():
            columns[name][row] = value
    return pl.DataFrame(columns)
