"""Positions of the zones of a city for a drawing. They are not geographic: the busiest zone is in the middle,
the others are around it by demand, in the spiral of the seeds of a sunflower."""

import math
from typing import Any

from oltp.places import City, cities

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def cities_with_positions() -> list[dict[str, Any]]:
    """Cities and their zones; x and y are from 0 to 1."""
    return [{"id": city.city_id, "name": city.name, "zones": _zones(city)} for city in cities()]


def _zones(city: City) -> list[dict[str, Any]]:
    ranked = sorted(city.zones, key=lambda zone: (-zone.trips, zone.zone_id))
    found = []
    for rank, zone in enumerate(ranked):
        radius = 0.5 * math.sqrt(rank / max(len(ranked) - 1, 1))
        x, y = (0.5 + radius * turn(rank * GOLDEN_ANGLE) for turn in (math.cos, math.sin))
        found.append({"id": zone.zone_id, "name": zone.name, "x": round(x, 4), "y": round(y, 4)})
    return found
