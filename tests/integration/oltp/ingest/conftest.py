"""Fixtures of trip files."""

from trip_files import hvfhv, judge, trips_of, yellow

__all__ = ["hvfhv", "judge", "trips_of", "yellow"]
