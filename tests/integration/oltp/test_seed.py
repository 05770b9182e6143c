"""Generated past rides are complete, reproducible, and loaded once."""

from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from oltp.audit import audit
from oltp.ingest.history import TRIPS, draw_drivers, draw_riders
from oltp.ingest.seed import past_trips, seed_rides
from oltp.store import Store


def test_the_first_rides_of_a_seed_do_not_depend_on_their_number() -> None:
    assert past_trips(1_000, 5).equals(past_trips(70_000, 5).head(1_000))


def test_different_seeds_give_different_rides() -> None:
    assert not set(past_trips(1_000, 5)["request_id"]) & set(past_trips(1_000, 6)["request_id"])


def test_generated_trips_have_the_schema_all_months_and_every_city() -> None:
    trips = past_trips(20_000, 1)
    assert trips.schema == TRIPS
    assert trips["requested_local"].dt.month().n_unique() == 12
    assert trips["city_id"].n_unique() == 4
    assert (trips["ended_at"] >= trips["requested_at"]).all()


@pytest.mark.parametrize(
    ("column", "median", "tolerance"),
    [("fare_cents", 1853, 0.06), ("distance_metres", 2.69 * 1609.344, 0.03)],
)
def test_medians_equal_those_of_the_published_trips(column: str, median: float, tolerance: float) -> None:
    assert past_trips(65_536, 2)[column].median() == pytest.approx(median, rel=tolerance)


def test_distance_and_fare_are_correlated_as_published() -> None:
    logs = past_trips(65_536, 2).select(pl.col("distance_metres", "fare_cents").cast(float).log())
    assert logs.select(pl.corr("distance_metres", "fare_cents")).item() == pytest.approx(0.91, abs=0.03)


def test_seeding_twice_stores_once(store: Store) -> None:
    assert seed_rides(store, 300, seed=9).rides == 300
    again = seed_rides(store, 400, seed=9)
    assert (again.rides, again.there_before) == (100, 300)


def test_two_concurrent_bulk_writers_store_each_trip_once_and_no_driver_twice(store: Store) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda seed: seed_rides(store, 400, seed=seed), [9, 9, 10]))
    assert sum(one.rides for one in done) == 800
    with store.connect() as connection:
        report = audit(connection)
    assert report.passed, report.verdict


def test_no_driver_and_no_rider_has_two_past_rides_at_once(seeded_store: Store) -> None:
    with seeded_store.connect() as connection:
        for column in ("driver_id", "rider_id"):
            overlaps = connection.execute(
                f"SELECT count(*) FROM rides a JOIN rides b USING ({column}) WHERE a.ride_id < b.ride_id"
                " AND a.requested_at < b.ended_at AND b.requested_at < a.ended_at"
            ).fetchone()
            assert overlaps == (0,)


def test_every_foreign_key_holds_after_a_load_without_their_triggers(seeded_store: Store) -> None:
    with seeded_store.connect() as connection:
        keys = connection.execute(
            "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE contype = 'f' AND connamespace = 'ridelake'::regnamespace"
        ).fetchall()
        assert len(keys) >= 10
        for table, name, definition in keys:  # adding the constraint again checks every row
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")  # type: ignore[arg-type]
            connection.execute(f"ALTER TABLE {table} ADD {definition}")  # type: ignore[arg-type]


def test_the_number_of_drivers_is_the_maximum_of_concurrent_rides() -> None:
    import numpy as np

    begin, end = np.array([0, 1, 2, 10, 11]), np.array([10, 3, 9, 12, 20])
    # Three rides are concurrent. Drivers 1 and 2 are idle at 10.
    assert draw_drivers(begin, end, 0).tolist() == [0, 1, 2, 1, 2]


def test_a_ride_that_overlaps_after_all_draws_gets_a_new_rider() -> None:
    import numpy as np

    begin, end = np.zeros(5, dtype=np.int64), np.full(5, 9)
    assert len(set(draw_riders(begin, end, 2, np.random.default_rng(1)).tolist())) == 5
