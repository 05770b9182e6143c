"""Guarantee E1: every question has the same answer on every engine, also for unusual stores."""

from collections.abc import Callable
from decimal import Decimal
from functools import partial

import pytest
from factories import QUAD, SOMA, STADIUM, Town
from psycopg import Connection
from psycopg.rows import TupleRow

from lakehouse.engines import BASE_ENGINES
from olap.answer import difference
from olap.ask import answer_of
from olap.question import find_question, questions
from oltp import booking, lifecycle
from oltp.ingest.seed import seed_rides
from oltp.store import Store
from ridelake.ride import CancelReason

Move = Callable[[Connection[TupleRow], int], object]


def no_rides(store: Store) -> None:
    pass


def cancelled_only(store: Store) -> None:
    """Only cancelled rides: groups are empty, and averages are null."""
    for zone in (QUAD, QUAD, SOMA):
        add_ride(store, lifecycle.cancel, zone=zone)


def ties(store: Store) -> None:
    """Equal fares, equal earnings of drivers, and equal numbers of rides in zones."""
    for zone in (QUAD, STADIUM, SOMA, SOMA, STADIUM, QUAD):
        add_ride(store, lifecycle.start, tipped, zone=zone)


def one_ride(store: Store) -> None:
    add_ride(store, lifecycle.start, lifecycle.complete)


def active_rides(store: Store) -> None:
    """Only active rides (assigned or started), which have no receipts and fares."""
    add_ride(store)
    add_ride(store, lifecycle.start, zone=SOMA)


def a_year(store: Store) -> None:
    seed_rides(store, 2_000, seed=7)
    active_rides(store)


def tipped(connection: Connection[TupleRow], ride_id: int) -> object:
    return lifecycle.complete(connection, ride_id, 100)


def add_ride(store: Store, *steps: Move, zone: int = QUAD, fare_cents: int = 2_000) -> None:
    """Add a ride with a new rider and a new driver, and apply the steps."""
    Town(store).driver(zone)
    add_ride_of_free_driver(store, *steps, zone=zone, fare_cents=fare_cents)


def add_ride_of_free_driver(store: Store, *steps: Move, zone: int = QUAD, fare_cents: int = 2_000) -> None:
    """Add a ride with a new rider and an available driver, and apply the steps."""
    town = Town(store)
    with store.connect() as connection:
        ride_id = booking.book(connection, town.request(town.rider(), zone, fare_cents)).ride_id
        assert ride_id is not None
        for move in steps:
            assert move(connection, ride_id)


STORES = [
    no_rides,
    ties,
    a_year,  # with active rides
    *(pytest.param(fill, marks=pytest.mark.slow) for fill in (cancelled_only, one_ride, active_rides)),
]


@pytest.mark.parametrize("fill", STORES)
def test_every_question_has_the_same_answer_on_every_engine(
    fill: Callable[[Store], None], store: Store, snapshot, engines_over
):
    fill(store)
    differences = {}
    with engines_over(snapshot(store)) as (engines, _):
        for question in questions().values():
            reference, *others = [answer_of(engine, question) for engine in engines]
            for name, other in zip(BASE_ENGINES[1:], others, strict=True):
                differences[question.name, name] = difference(reference, other, names=(BASE_ENGINES[0], name))
    assert {key: text for key, text in differences.items() if text} == {}


def test_the_weights_determine_the_ranking(store: Store, snapshot, engines_over):
    """One driver completes two rides and cancels one. The other driver completes one ride."""
    cancel_by_driver = partial(lifecycle.cancel, reason=CancelReason.DRIVER)
    town = Town(store)
    active = town.driver()
    for steps in (
        (lifecycle.start, lifecycle.complete),
        (lifecycle.start, lifecycle.complete),
        (cancel_by_driver,),
    ):
        add_ride_of_free_driver(store, *steps)
    town.ask("UPDATE drivers SET status = 'offline' RETURNING driver_id")
    reliable = town.driver()
    add_ride_of_free_driver(store, lifecycle.start, lifecycle.complete)
    ranked = {
        (Decimal("0.9"), Decimal("0.1")): [(reliable, 0.95), (active, 0.7)],
        (0.1, 0.9): [(active, 29 / 30), (reliable, 0.55)],
        (0, 0): [(active, 0), (reliable, 0)],
    }
    with engines_over(snapshot(store)) as (engines, _):
        for (alpha, beta), expected in ranked.items():
            question = find_question("driver_ranking").given({"alpha": alpha, "beta": beta})
            for engine in engines:
                rows = answer_of(engine, question).to_pylist()
                assert [row["driver_id"] for row in rows] == [driver for driver, _ in expected]
                assert [row["score"] for row in rows] == pytest.approx([score for _, score in expected])


def test_a_session_ends_after_more_than_30_minutes(store: Store, snapshot, engines_over):
    """One rider rides at 0, 30 and 61 minutes, another one once. The sessions have 2, 1 and 1 rides."""
    for _ in range(4):
        add_ride(store, lifecycle.start, lifecycle.complete)
    Town(store).ask(
        "UPDATE rides SET"
        " rider_id = CASE ride_id WHEN 4 THEN rider_id ELSE (SELECT MIN(rider_id) FROM rides) END,"
        " requested_at = TIMESTAMPTZ '2026-01-01 00:00Z'"
        " + (CASE ride_id WHEN 2 THEN 30 WHEN 3 THEN 61 ELSE 0 END) * INTERVAL '1 minute',"
        " requested_local = '2026-01-01', assigned_at = '2026-01-01 02:00Z',"
        " started_at = '2026-01-01 02:00Z', ended_at = '2026-01-01 02:00Z' RETURNING ride_id"
    )
    with engines_over(snapshot(store)) as (engines, _):
        for engine in engines:
            rows = answer_of(engine, find_question("rider_sessions")).to_pylist()
            assert rows == [
                {"rides_in_session": 1, "sessions": 2, "riders": 2},
                {"rides_in_session": 2, "sessions": 1, "riders": 1},
            ]


@pytest.mark.slow
def test_a_zone_trends_if_it_exceeds_the_same_hour_of_earlier_weeks(store: Store, snapshot, engines_over):
    """The newest ride is on Thursday at 12:30. The question compares 12:00 to 12:30 on five Thursdays."""
    when = {
        QUAD: ["2026-01-29 12:30", "2026-01-29 12:05", "2026-01-22 12:30", "2026-01-22 12:31"],
        STADIUM: ["2026-01-29 12:00", "2026-01-01 12:10", "2025-12-25 12:10", "2026-01-28 12:10"],
    }
    moments = [(zone, moment) for zone, moments in when.items() for moment in moments]
    for number, (zone, moment) in enumerate(moments, 1):
        add_ride(store, lifecycle.start, lifecycle.complete, zone=zone)
        Town(store).ask(
            "UPDATE rides SET requested_local = %s WHERE ride_id = %s RETURNING ride_id", moment, number
        )
    with engines_over(snapshot(store)) as (engines, _):
        for engine in engines:
            rows = answer_of(engine, find_question("trending_zones")).to_pylist()
            found = [(row["zone_id"], row["this_hour"], row["usual"]) for row in rows]
            assert found == [(QUAD, 2, 0.25), (STADIUM, 1, 0.25)]


def test_the_funnel_narrows_at_every_step(store: Store, snapshot, engines_over):
    town = Town(store)
    add_ride(store, lifecycle.start, lifecycle.complete)
    add_ride(store, lifecycle.start)
    add_ride(store, lifecycle.cancel)
    with store.connect() as connection:
        assert booking.book(connection, town.request(town.rider(balance_cents=0))).ride_id is None
    with engines_over(snapshot(store)) as (engines, _):
        for engine in engines:
            (row,) = answer_of(engine, find_question("request_funnel")).to_pylist()
            assert list(row.values()) == ["Stanford", 4, 3, 2, 1, 1]


@pytest.mark.slow
def test_repeated_runs_return_rows_in_the_same_order(settings, engines_over):
    with engines_over(settings) as (engines, _):
        for question in questions().values():
            for engine in engines:
                first, again = answer_of(engine, question), answer_of(engine, question)
                assert difference(first, again) is None, (engine.name, question.name)


@pytest.mark.slow
def test_a_percentile_is_a_fare_that_was_paid(store: Store, snapshot, engines_over):
    """For fares of 1 to 10 dollars, the median is the fifth fare, not the mean of the fifth and the sixth."""
    for dollars in range(10, 0, -1):
        add_ride(store, lifecycle.start, lifecycle.complete, fare_cents=dollars * 100)
    with engines_over(snapshot(store)) as (engines, _):
        for engine in engines:
            (row,) = answer_of(engine, find_question("fare_percentiles")).to_pylist()
            assert (row["rides"], row["median_fare_cents"], row["p90_fare_cents"]) == (10, 500, 900)


def test_the_average_price_is_exact(settings, engines_over, seeded_store: Store):
    expected = Town(seeded_store).ask(
        "SELECT round(avg(fare_cents), 6) / 100 FROM rides JOIN cities USING (city_id)"
        " WHERE name = 'Stanford' AND extract(month FROM requested_local) = 7 AND status = 'completed'"
    )
    with engines_over(settings) as (engines, _):
        for engine in engines:
            for answer in (
                answer_of(engine, find_question("average_price")),
                engine.sql(find_question("average_price").sql),
            ):
                assert float(answer.column(0)[0].as_py()) == pytest.approx(float(expected[0][0]), abs=1e-6)
