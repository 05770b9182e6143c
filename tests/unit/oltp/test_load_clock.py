"""Local times without an offset, in the nights of the daylight saving changes."""

from datetime import UTC, datetime

import polars as pl
import pytest

from oltp.ingest.tlc.times import local_time, with_utc_times


def utc_times(pickup: datetime, dropoff: datetime) -> tuple[datetime, datetime]:
    placed = with_utc_times(pl.DataFrame({"pickup": [pickup], "dropoff": [dropoff]}))
    return placed.item(0, "started_at"), placed.item(0, "ended_at")


def autumn(hour: int, minute: int) -> datetime:
    return datetime(2023, 11, 5, hour, minute)


def utc(hour: int, minute: int) -> datetime:
    return datetime(2023, 11, 5, hour, minute, tzinfo=UTC)


def test_summer_and_winter_differ_by_an_hour():
    assert utc_times(datetime(2024, 7, 1, 12), datetime(2024, 1, 1, 12)) == (
        datetime(2024, 7, 1, 16, tzinfo=UTC),
        datetime(2024, 1, 1, 17, tzinfo=UTC),
    )


def test_a_time_skipped_in_spring_is_read_as_standard_time():
    begin, _ = utc_times(datetime(2024, 3, 10, 2, 30), datetime(2024, 3, 10, 3, 45))
    assert begin == datetime(2024, 3, 10, 7, 30, tzinfo=UTC)
    assert pl.select(local_time(pl.lit(begin))).item() == datetime(2024, 3, 10, 3, 30)


@pytest.mark.parametrize(
    ("pickup", "dropoff", "expected"),
    [
        (autumn(0, 50), autumn(1, 10), (utc(4, 50), utc(5, 10))),  # only the dropoff is ambiguous
        (autumn(1, 10), autumn(1, 30), (utc(5, 10), utc(5, 30))),  # both are ambiguous: the earlier times
        (autumn(1, 50), autumn(1, 10), (utc(5, 50), utc(6, 10))),  # the clocks change during the trip
        (autumn(1, 50), autumn(2, 10), (utc(6, 50), utc(7, 10))),  # 20 minutes, not 80
    ],
)
def test_ambiguous_times_are_read_as_the_shortest_forward_trip(pickup, dropoff, expected):
    assert utc_times(pickup, dropoff) == expected
