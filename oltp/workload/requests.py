"""Ride requests of a workload: rider, time, route, price and request id.

A run simulates days. A day has 2,400 requests in the order of the hours; the shares of the hours are those of
New York (`oltp.ingest.seed.HOUR_SHARE`). Riders are drawn uniformly. Zones are drawn half by published
demand and half by a Zipf distribution (the k-th zone has 1/k of the demand of the first), whose ranking
depends on the part of the day. The drop-offs of the morning have the ranking of the pick-ups of the evening,
and vice versa.

The ranking depends on the city, not on the seed. The 74 free bits of a request id (a UUIDv7) are:

    12 bits   a counter, so that ids of one millisecond differ
    30 bits   the mark of the run, drawn once: the decisions of this run can be counted exactly in the store,
              also while other clients book, and without a list of ids
    32 bits   the mark of all simulations: a ride whose client was killed may be ended by the next run.
              Rides of other clients are not; one id in four billion has these bits by chance
"""

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.rows import TupleRow

from oltp import lifecycle
from oltp.ingest.seed import CITY_FARE_FACTOR, HOUR_SHARE, draw_shape
from oltp.places import City, cities
from oltp.store import Store
from ridelake.errors import NotReady
from ridelake.ride import Outcome, RideRequest, new_request_id

DAY_REQUESTS = 2_400
ZIPF_SHARE = 0.5  # the rest follows the published demand
ZIPF_EXPONENT = 1.0

NIGHT, MORNING, NOON, EVENING, LATE = range(5)
PART_OF_HOUR = np.array([NIGHT] * 6 + [MORNING] * 4 + [NOON] * 6 + [EVENING] * 4 + [LATE] * 4)
# The part of the day whose pick-up ranking a part uses for its drop-offs.
DROP_OFFS_OF = {NIGHT: LATE, MORNING: EVENING, NOON: NOON, EVENING: MORNING, LATE: NIGHT}

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TimedRequest:
    """A request and its hour of the simulated day."""

    hour: int
    request: RideRequest


def draw_requests(random: np.random.Generator, riders_of: dict[int, list[int]]) -> Iterator[RideRequest]:
    """An infinite sequence of requests by the riders in `riders_of` (city id → rider ids)."""
    return (wish.request for wish in draw_timed_requests(random, riders_of, new_request_id))


def draw_timed_requests(
    random: np.random.Generator, riders_of: dict[int, list[int]], new_id: Callable[[], UUID]
) -> Iterator[TimedRequest]:
    """An infinite sequence of requests with hours. An id is created when its request is taken, so that ids
    are ordered by time."""
    here = [city for city in cities() if riders_of.get(city.city_id)]
    riders = np.concatenate([np.array(riders_of[city.city_id], dtype=np.int64) for city in here])
    city_of = np.repeat(np.arange(len(here)), [len(riders_of[city.city_id]) for city in here])
    fare_factor = np.array([CITY_FARE_FACTOR[city.city_id - 1] for city in here])
    while True:
        hours = np.sort(random.choice(24, size=DAY_REQUESTS, p=HOUR_SHARE / HOUR_SHARE.sum()))
        who = random.integers(0, len(riders), DAY_REQUESTS)
        places = city_of[who]
        pickups, dropoffs = _draw_ways(random, here, places, PART_OF_HOUR[hours])
        shape = draw_shape(random, DAY_REQUESTS)
        cents = (shape.fare_cents * fare_factor[places]).astype(np.int64)
        drawn = (hours, riders[who], pickups, dropoffs, shape.distance_metres, cents)
        for hour, *rest in zip(*(column.tolist() for column in drawn), strict=True):
            yield TimedRequest(hour, RideRequest(new_id(), *rest))


def zone_shares(city: City, part: int) -> tuple[Ints, Floats]:
    """The zones of a city that have demand, and their shares in this part of the day."""
    zone_ids, published, zipf = _ranked(city)
    return zone_ids, (1 - ZIPF_SHARE) * published + ZIPF_SHARE * zipf[part]


def riders_by_city(store: Store) -> dict[int, list[int]]:
    """The ids of all riders by city id. Raises NotReady if there are none."""
    with store.connect() as connection:
        rows = connection.execute(
            "SELECT city_id, array_agg(rider_id ORDER BY rider_id) FROM riders GROUP BY city_id"
        )
        riders_of: dict[int, list[int]] = dict(rows.fetchall())
    if not riders_of:
        raise NotReady("the store has no riders: run `ridelake seed` or `ridelake load FILE` first")
    return riders_of


def _draw_ways(random: np.random.Generator, here: list[City], places: Ints, parts: Ints) -> tuple[Ints, Ints]:
    pickups, dropoffs = np.empty_like(places), np.empty_like(places)
    for number, city in enumerate(here):
        for part in range(5):
            asked = (places == number) & (parts == part)
            n = int(asked.sum())
            zone_ids, shares = zone_shares(city, part)
            pickups[asked] = random.choice(zone_ids, size=n, p=shares)
            _, shares = zone_shares(city, DROP_OFFS_OF[part])
            dropoffs[asked] = random.choice(zone_ids, size=n, p=shares)
    return pickups, dropoffs


@cache
def _ranked(city: City) -> tuple[Ints, Floats, Floats]:
    """Zone ids, their published shares, and their Zipf shares in each part of the day."""
    zones = [zone for zone in city.zones if zone.trips > 0]
    published = np.array([zone.trips for zone in zones], dtype=float)
    falling = 1 / np.arange(1, len(zones) + 1) ** ZIPF_EXPONENT
    zipf = [np.random.default_rng([city.city_id, part]).permutation(falling) for part in range(5)]
    return (
        np.array([zone.zone_id for zone in zones], dtype=np.int64),
        published / published.sum(),
        np.array(zipf) / falling.sum(),
    )


OF_A_SIMULATION = b"ride"
EXPIRE_SECONDS = 60.0  # a ride of a simulation takes milliseconds; the client of an older one is dead

# The bounds limit the scan to the newest pages of the primary key.
STORED = b"""
    SELECT outcome, count(*) FROM requests
    WHERE request_id BETWEEN %s AND %s AND substring(uuid_send(request_id) FROM 9 FOR 4) = %s
    GROUP BY outcome"""

OF_OTHERS = b"""
    SELECT count(*) FROM requests
    WHERE request_id BETWEEN %s AND %s AND substring(uuid_send(request_id) FROM 13) = %s
      AND substring(uuid_send(request_id) FROM 9 FOR 4) <> %s"""

UNDER_WAY = b"""
    SELECT count(*) FROM rides
    WHERE status IN ('assigned', 'started') AND substring(uuid_send(request_id) FROM 13) = %s"""


class RequestIds:
    """The ids of one run, shared by its clients."""

    def __init__(self) -> None:
        mark = bytearray(os.urandom(4))
        mark[0] = mark[0] & 0x3F | 0x80  # the variant of RFC 9562
        self._mark = bytes(mark)
        self._count = itertools.count()
        # A monotonic clock: no id of the run is before the first one.
        self._began_ms = time.time_ns() // 1_000_000
        self._began = time.monotonic_ns()

    def new(self) -> UUID:
        milliseconds = self._began_ms + (time.monotonic_ns() - self._began) // 1_000_000
        count = next(self._count) & 0x0FFF | 0x7000  # version 7
        return UUID(bytes=milliseconds.to_bytes(6) + count.to_bytes(2) + self._mark + OF_A_SIMULATION)

    def stored(self, connection: Connection[TupleRow]) -> Counter[Outcome]:
        """The decisions of this run that are in the store, counted by outcome."""
        rows = connection.execute(STORED, (*self._bounds(), self._mark))
        return Counter({Outcome(outcome): count for outcome, count in rows})

    def of_others(self, connection: Connection[TupleRow]) -> int:
        """The number of requests of other simulations since this run began."""
        row = connection.execute(OF_OTHERS, (*self._bounds(), OF_A_SIMULATION, self._mark)).fetchone()
        assert row is not None, "a count returns one row"
        count: int = row[0]
        return count

    def _bounds(self) -> tuple[UUID, UUID]:
        first = UUID(bytes=self._began_ms.to_bytes(6) + bytes(10))
        return first, UUID(bytes=self.new().bytes[:6] + b"\xff" * 10)


def expire(connection: Connection[TupleRow]) -> int:
    """End the rides of killed simulations: rides of simulations that are older than EXPIRE_SECONDS by the
    server's clock. Returns their number."""
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None, "now() returns one row"
    before = row[0] - timedelta(seconds=EXPIRE_SECONDS)
    return sum(lifecycle.expire(connection, before, before, OF_A_SIMULATION))


def under_way(connection: Connection[TupleRow]) -> int:
    """The number of active rides of simulations."""
    row = connection.execute(UNDER_WAY, (OF_A_SIMULATION,)).fetchone()
    assert row is not None, "a count returns one row"
    count: int = row[0]
    return count
