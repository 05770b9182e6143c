"""The requests of a simulation depend on the seed, the hour of the day and a ranking of the zones."""

import itertools
from collections import Counter

import numpy as np
import pytest

from oltp.places import cities
from oltp.store import Store
from oltp.workload import draw_requests, simulate
from oltp.workload.requests import DAY_REQUESTS, EVENING, MORNING, draw_timed_requests, zone_shares
from ridelake.ride import new_request_id

RIDERS_OF = {1: [1, 2, 3], 2: list(range(10, 20)), 3: list(range(20, 60)), 4: [60]}


def asked(store: Store) -> list[tuple]:
    """The parameters of the requests, ordered by id, which is the order in time."""
    wanted = "rider_id, pickup_zone_id, dropoff_zone_id, distance_metres, fare_cents"
    with store.connect() as connection:
        return connection.execute(f"SELECT {wanted} FROM requests ORDER BY request_id".encode()).fetchall()


def forget_requests(store: Store) -> None:
    with store.connect() as connection:
        connection.execute("TRUNCATE requests")


def test_one_client_with_one_seed_sends_the_same_requests_every_time(seeded_store: Store):
    simulate(seeded_store, rides=100, clients=1, seed=8)
    first = asked(seeded_store)
    forget_requests(seeded_store)
    simulate(seeded_store, rides=100, clients=1, seed=8)
    assert asked(seeded_store) == first
    forget_requests(seeded_store)
    simulate(seeded_store, rides=100, clients=1, seed=9)
    assert asked(seeded_store) != first


def test_the_requests_of_a_seed_do_not_depend_on_the_number_of_clients(seeded_store: Store):
    simulate(seeded_store, rides=100, clients=1, seed=8)
    first = asked(seeded_store)
    forget_requests(seeded_store)
    simulate(seeded_store, rides=100, clients=20, batch=True, seed=8)
    assert Counter(asked(seeded_store)) == Counter(first)


def test_a_day_has_its_hours_in_order_and_its_rush_hours():
    requests = list(
        itertools.islice(
            draw_timed_requests(np.random.default_rng(1), RIDERS_OF, new_request_id), DAY_REQUESTS
        )
    )
    hours = [timed.hour for timed in requests]
    assert hours == sorted(hours)
    assert set(hours) == set(range(24))
    assert hours.count(18) > 2 * hours.count(3)


def test_requests_stay_within_the_city_of_their_rider():
    city_of = {zone.zone_id: city.city_id for city in cities() for zone in city.zones}
    for request in itertools.islice(draw_requests(np.random.default_rng(2), RIDERS_OF), 3_000):
        home = city_of[request.pickup_zone_id]
        assert request.rider_id in RIDERS_OF[home]
        assert city_of[request.dropoff_zone_id] == home


def test_the_ranking_of_zones_depends_on_the_hour_and_evening_mirrors_morning():
    for city in cities():
        zone_ids, morning = zone_shares(city, MORNING)
        _, evening = zone_shares(city, EVENING)
        assert morning.sum() == pytest.approx(1)
        assert np.argsort(morning).tolist() != np.argsort(evening).tolist()
        if len(zone_ids) > 100:  # in a large city, the first zone has a multiple of the mean
            assert morning.max() > 10 / len(zone_ids)
