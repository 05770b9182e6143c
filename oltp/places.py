"""Cities, their zones and the demand of each (`places.csv`).

New York's zones are the taxi zones of the TLC (`zone_id` = 3000 + LocationID). Their `trips` are the pick-ups
of Uber and Lyft in one month. The `trips` of the other cities are invented and decrease with the rank of the
zone.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from psycopg import Connection
from psycopg.rows import TupleRow

NEW_YORK = 3
TLC_ZONE_OFFSET = 3000
TLC_UNKNOWN_ZONES = (264, 265)  # the TLC's "unknown" and "outside of New York City"


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of a city; `trips` is its demand relative to the other zones of the city."""

    city_id: int
    zone_id: int
    name: str
    trips: int


@dataclass(frozen=True, slots=True)
class City:
    city_id: int
    name: str
    time_zone: str
    zones: tuple[Zone, ...]


@cache
def cities() -> tuple[City, ...]:
    rows_of: dict[tuple[int, str, str], list[Zone]] = {}
    with files("oltp").joinpath("places.csv").open() as source:
        for row in csv.DictReader(source):
            city = (int(row["city_id"]), row["city"], row["time_zone"])
            zone = Zone(city[0], int(row["zone_id"]), row["zone"], int(row["trips"]))
            rows_of.setdefault(city, []).append(zone)
    return tuple(City(*city, tuple(zones)) for city, zones in rows_of.items())


def install_places(connection: Connection[TupleRow]) -> None:
    """Write all cities and zones in the caller's transaction."""
    cursor = connection.cursor()
    with cursor.copy("COPY cities (city_id, name, time_zone) FROM STDIN") as copy:
        for city in cities():
            copy.write_row((city.city_id, city.name, city.time_zone))
    with cursor.copy("COPY zones (zone_id, city_id, name) FROM STDIN") as copy:
        for city in cities():
            for zone in city.zones:
                copy.write_row((zone.zone_id, zone.city_id, zone.name))
