"""Loads a year of generated rides with COPY. The same seed gives the same rides, which are loaded only
once."""

from dataclasses import dataclass
from time import perf_counter

import polars as pl

from oltp.ingest.city import past_trips
from oltp.ingest.history import known_requests, store_trips, vacuum_and_analyze
from oltp.store import Store, transaction
from ridelake.progress import progress


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
