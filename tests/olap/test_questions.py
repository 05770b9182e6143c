"""E1: every question has one answer, whoever is asked and however odd the rides are."""

from collections.abc import Callable

import pytest
from psycopg import Connection
from psycopg.rows import TupleRow
from town import QUAD, SOMA, STADIUM, Town

from lakehouse.engines import ENGINE_NAMES
from olap.answer import difference
from olap.ask import answer_of
from olap.question import find, questions
from oltp import booking
from oltp.seed import seed_rides
from oltp.store import Store

Move = Callable[[Connection[TupleRow], int], bool]


def no_rides(store: Store) -> None:
    pass


def cancelled_only(store: Store) -> None:
    """Rides, but not one that was paid: groups vanish, averages are null."""
    for zone in (QUAD, QUAD, SOMA):
        ride(store, booking.cancel, zone=zone)


def ties(store: Store) -> None:
    """Equal fares, drivers who earned the same, zones as busy as each other."""
    for zone in (QUAD, STADIUM, SOMA, SOMA, STADIUM, QUAD):
        ride(store, booking.start, tipped, zone=zone)


def one_ride(store: Store) -> None:
    ride(store, booking.start, booking.complete)


def under_way(store: Store) -> None:
    """Assigned and started rides, none of them over: no receipt, no fare."""
    ride(store)
    ride(store, booking.start, zone=SOMA)


def a_year(store: Store) -> None:
    seed_rides(store, 2_000, seed=7)
    under_way(store)


def tipped(connection: Connection[TupleRow], ride_id: int) -> bool:
    return booking.complete(connection, ride_id, 100)


def ride(store: Store, *moves: Move, zone: int = QUAD, fare_cents: int = 2_000) -> None:
    """One more ride, taken as far as the moves go, by a rider and a driver of its own."""
    town = Town(store)
    town.driver(zone)
    with store.connect() as connection:
        ride_id = booking.book(connection, town.request(town.rider(), zone, fare_cents)).ride_id
        assert ride_id is not None
        for move in moves:
            assert move(connection, ride_id)


PASTS = [no_rides, cancelled_only, ties, one_ride, under_way, a_year]


@pytest.mark.parametrize("past", PASTS)
def test_every_question_has_one_answer(past: Callable[[Store], None], store: Store, snapshot, engines_over):
    past(store)
    differences = {}
    with engines_over(snapshot(store)) as (engines, _):
        for question in questions().values():
            reference, *others = [answer_of(engine, question) for engine in engines]
            for name, other in zip(ENGINE_NAMES[1:], others, strict=True):
                differences[question.name, name] = difference(reference, other, names=(ENGINE_NAMES[0], name))
    assert {key: told for key, told in differences.items() if told} == {}


def test_the_rows_come_in_one_order_however_often_they_are_asked_for(settings, engines_over):
    with engines_over(settings) as (engines, _):
        for question in questions().values():
            for engine in engines:
                first, again = answer_of(engine, question), answer_of(engine, question)
                assert difference(first, again) is None, (engine.name, question.name)


def test_a_percentile_is_a_fare_that_was_paid(store: Store, snapshot, engines_over):
    """Of 1 to 10 dollars the median is the fifth fare, not the middle of the fifth and the sixth."""
    for dollars in range(10, 0, -1):
        ride(store, booking.start, booking.complete, fare_cents=dollars * 100)
    with engines_over(snapshot(store)) as (engines, _):
        for engine in engines:
            (row,) = answer_of(engine, find("fare_percentiles")).to_pylist()
            assert (row["rides"], row["median_fare_cents"], row["p90_fare_cents"]) == (10, 500, 900)


def test_the_lectures_question_is_answered_to_the_cent(settings, engines_over, seeded_store: Store):
    expected = Town(seeded_store).ask(
        "SELECT round(avg(fare_cents), 6) / 100 FROM rides JOIN cities USING (city_id)"
        " WHERE name = 'Stanford' AND extract(month FROM requested_local) = 7 AND status = 'completed'"
    )
    with engines_over(settings) as (engines, _):
        for engine in engines:
            for answer in (answer_of(engine, find("average_price")), engine.sql(find("average_price").sql)):
                assert float(answer.column(0)[0].as_py()) == pytest.approx(float(expected[0][0]), abs=1e-6)
