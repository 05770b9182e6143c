"""Distributions of ride requests (times, routes, prices), and a generated year of past rides.

The distributions are those of Uber and Lyft in New York (about 20.9 million trips a month, published by the
TLC): shares by hour and weekday; medians, spreads and correlations of distance, duration, fare and wait. All
are log-normal.

Trips are drawn from a seed, in blocks, so that the first N rides of a seed are the same for every N. They are
loaded only once (`history`).
"""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oltp.ingest.history import TRIPS, known_requests, store_trips, vacuum_and_analyze
from oltp.places import City, cities
from oltp.store import Store, transaction
from ridelake.progress import progress

HOUR_SHARE = np.array(
    [
        *(3.72, 2.58, 1.86, 1.50, 1.58, 1.92, 2.76, 3.94, 5.06, 4.89, 4.43, 4.39),
        *(4.50, 4.64, 4.89, 5.06, 5.24, 5.66, 5.73, 5.45, 5.14, 5.17, 5.18, 4.73),
    ]
)
WEEKDAY_SHARE = np.array([12.7, 13.1, 14.0, 13.7, 15.0, 17.1, 14.4])  # Monday first

MILES_MEDIAN, MILES_SIGMA = 2.69, 1.04
SECONDS_MEDIAN, SECONDS_SIGMA = 921.0, 0.69
FARE_MEDIAN_CENTS, FARE_SIGMA = 1853.0, 0.72
WAIT_MEDIAN_SECONDS, WAIT_SIGMA = 265.0, 0.635
MILES_SECONDS_CORRELATION = 0.84  # the correlation of the logarithms
MILES_FARE_CORRELATION = 0.91
METRES_PER_MILE = 1609.344

TIP_SHARE = 0.194
TIP_CENTS = np.array([300, 100, 500, 200, 400, 1000])
TIP_CENTS_SHARE = np.array([0.27, 0.21, 0.20, 0.17, 0.08, 0.07])
CANCELLED_SHARE = 0.05  # not published; a conservative estimate

# Shares of the cities (by city_id - 1), and factors of their fares.
CITY_SHARE = np.array([0.12, 0.28, 0.42, 0.18])
CITY_FARE_FACTOR = np.array([0.92, 1.06, 1.0, 0.84])

# The year of the trips that `seed` generates: a whole one, independent of the clock.
YEAR = 2025
BLOCK_ROWS = 65_536

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TripShape:
    """Distances, durations and fares of n trips."""

    distance_metres: Ints
    duration_seconds: Ints
    fare_cents: Ints


def draw_shape(random: np.random.Generator, n: int) -> TripShape:
    """n trips with the published medians, spreads and correlations."""
    far, slow, dear = random.standard_normal((3, n))
    slow = MILES_SECONDS_CORRELATION * far + np.sqrt(1 - MILES_SECONDS_CORRELATION**2) * slow
    dear = MILES_FARE_CORRELATION * far + np.sqrt(1 - MILES_FARE_CORRELATION**2) * dear
    miles = MILES_MEDIAN * np.exp(MILES_SIGMA * far)
    seconds = SECONDS_MEDIAN * np.exp(SECONDS_SIGMA * slow)
    fare_cents = FARE_MEDIAN_CENTS * np.exp(FARE_SIGMA * dear)
    return TripShape(
        (np.clip(miles, 0.1, 120.0) * METRES_PER_MILE).astype(np.int64),
        np.clip(seconds, 60, 4 * 3600).astype(np.int64),
        np.clip(fare_cents, 400, 60_000).astype(np.int64),
    )


def draw_zones(random: np.random.Generator, city: City, n: int) -> Ints:
    """n zone ids of the city, weighted by demand."""
    weights = np.array([zone.trips for zone in city.zones], dtype=float)
    zone_ids = np.array([zone.zone_id for zone in city.zones], dtype=np.int64)
    return random.choice(zone_ids, size=n, p=weights / weights.sum())


def draw_tips(random: np.random.Generator, n: int) -> Ints:
    """Tips in cents; 0 for four of five rides."""
    tips = random.choice(TIP_CENTS, size=n, p=TIP_CENTS_SHARE)
    return np.where(random.random(n) < TIP_SHARE, tips, 0)


def past_trips(rides: int, seed: int) -> pl.DataFrame:
    """`rides` trips of the year, of schema TRIPS, unordered."""
    blocks = [_block(seed, index) for index in range(-(-rides // BLOCK_ROWS))]
    return pl.concat(blocks).head(rides) if blocks else pl.DataFrame(schema=TRIPS)


def _block(seed: int, index: int) -> pl.DataFrame:
    random = np.random.default_rng([seed, index])
    n = BLOCK_ROWS
    city = random.choice(len(CITY_SHARE), size=n, p=CITY_SHARE)
    pickup, dropoff = np.empty((2, n), dtype=np.int64)
    for number, place in enumerate(cities()):
        here = city == number
        pickup[here] = draw_zones(random, place, int(here.sum()))
        dropoff[here] = draw_zones(random, place, int(here.sum()))
    shape = draw_shape(random, n)
    wait_us = (WAIT_MEDIAN_SECONDS * np.exp(WAIT_SIGMA * random.standard_normal(n)) * 1e6).astype(np.int64)
    cancelled = random.random(n) < CANCELLED_SHARE
    tip_cents = np.where(cancelled, 0, draw_tips(random, n))
    frame = pl.DataFrame(
        {
            "request_id": _request_ids(random, n),
            "city_id": city + 1,
            "pickup_zone_id": pickup,
            "dropoff_zone_id": dropoff,
            "requested_local": _wall_clock(random, n),
            "wait_us": wait_us,
            "ride_us": shape.duration_seconds * 1_000_000,
            "distance_metres": shape.distance_metres,
            "fare_cents": (shape.fare_cents * CITY_FARE_FACTOR[city]).astype(np.int64),
            "tip_cents": tip_cents,
            "cancelled": cancelled,
        }
    )
    started_at = pl.col("requested_at") + pl.duration(microseconds="wait_us")
    return (
        frame.with_columns(requested_at=_to_utc(frame))
        .with_columns(started_at=pl.when(~pl.col("cancelled")).then(started_at))
        .with_columns(
            ended_at=pl.when("cancelled")
            .then(pl.col("requested_at") + pl.duration(microseconds="wait_us"))
            .otherwise(pl.col("started_at") + pl.duration(microseconds="ride_us"))
        )
        .select(pl.col(name).cast(dtype) for name, dtype in TRIPS.items())
    )


def _wall_clock(random: np.random.Generator, n: int) -> pl.Series:
    """n local times within the year, weighted by weekday and by hour."""
    days = np.arange(f"{YEAR}-01-01", f"{YEAR + 1}-01-01", dtype="datetime64[D]")
    weekday = (days.astype(np.int64) + 3) % 7  # 1 January 1970 was a Thursday
    share = WEEKDAY_SHARE[weekday]
    day = random.choice(days, size=n, p=share / share.sum())
    hour = random.choice(24, size=n, p=HOUR_SHARE / HOUR_SHARE.sum())
    microsecond = hour * 3_600_000_000 + random.integers(0, 3_600_000_000, n)
    return pl.Series(day.astype("datetime64[us]") + microsecond.astype("timedelta64[us]"))


def _to_utc(frame: pl.DataFrame) -> pl.Series:
    """Local time → UTC. A time in the hour that is skipped in spring is moved one hour later; a time in the
    hour that is repeated in autumn is the first of the two."""
    utc = pl.Series("requested_at", [None] * frame.height, dtype=pl.Datetime("us", "UTC"))
    for city in cities():
        local = frame.get_column("requested_local").cast(pl.Datetime("us"))
        zoned = local.dt.replace_time_zone(city.time_zone, ambiguous="earliest", non_existent="null")
        later = local.dt.offset_by("1h").dt.replace_time_zone(
            city.time_zone, ambiguous="earliest", non_existent="null"
        )
        here = zoned.fill_null(later).dt.convert_time_zone("UTC")
        utc = pl.select(
            pl.when(frame.get_column("city_id") == city.city_id)
            .then(here)
            .otherwise(utc)
            .alias("requested_at")
        ).to_series()
    return utc


def _request_ids(random: np.random.Generator, n: int) -> pl.Series:
    """n UUIDs of version 8 (RFC 9562 §5.8: custom) from the seed."""
    octets = random.integers(0, 256, size=(n, 16), dtype=np.uint8)
    octets[:, 6] = octets[:, 6] & 0x0F | 0x80
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    return pl.Series([row.tobytes() for row in octets], dtype=pl.Binary)


@dataclass(frozen=True, slots=True)
class SeedResult:
    """The result of `seed_rides`. `rides`: new rides; `there_before`: rides of this seed that were already
    loaded."""

    rides: int
    there_before: int
    seed: int
    seconds: float

    @property
    def rides_per_second(self) -> float:
        return self.rides / self.seconds


def seed_rides(store: Store, rides: int, seed: int) -> SeedResult:
    """Put the first `rides` rides of `seed` into the store, in one transaction."""
    started = perf_counter()
    with progress(f"generating {rides:,} rides") as shown, store.connect() as connection:
        trips = past_trips(rides, seed)
        with transaction(connection):
            known = known_requests(connection, trips["request_id"])
            new = trips.filter(~pl.col("request_id").is_in(known.implode()))
            shown.step("copying, rides", new.height)
            stored = store_trips(connection, new, seed=seed, on_trips=shown.advance)
        shown.step("VACUUM and ANALYZE")
        vacuum_and_analyze(connection)
    return SeedResult(stored, rides - stored, seed, perf_counter() - started)
