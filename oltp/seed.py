"""A year of plausible past, by COPY. The same seed gives the same rides, and gives them once."""

from dataclasses import dataclass
from time import perf_counter

import polars as pl

from oltp.city import past_trips
from oltp.history import known_requests, settle, store_trips
from oltp.store import Store, transaction


@dataclass(frozen=True, slots=True)
class Seeded:
    """What `seed` did. `there_before`: rides of this seed that the store had already."""

    rides: int
    there_before: int
    seed: int
    seconds: float

    @property
    def rides_per_second(self) -> float:
        return self.rides / self.seconds


def seed_rides(store: Store, rides: int, seed: int) -> Seeded:
    """Put the first `rides` rides of `seed` into the store, in one transaction."""
    started = perf_counter()
    trips = past_trips(rides, seed)
    with store.connect() as connection:
        with transaction(connection):
            known = known_requests(connection, trips["request_id"])
            new = trips.filter(~pl.col("request_id").is_in(known.implode()))
            stored = store_trips(connection, new, seed=seed)
        settle(connection)
    return Seeded(stored, rides - stored, seed, perf_counter() - started)
