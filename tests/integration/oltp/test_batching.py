"""Guarantees O3 and O7 in batches: every item gets the result that a single call would get."""

import random
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest
from concurrency import assert_audit_passes, wait_until_blocked
from factories import QUAD, SOMA, STADIUM, Town
from psycopg import Connection

from oltp import booking, lifecycle
from oltp.batching import BatchQueue
from oltp.pool import RetryPool
from ridelake.ride import Decision, Outcome, RideRequest, new_request_id

ZONES = (QUAD, STADIUM, 1001, SOMA, 2002)


def batch_of(pool: RetryPool, requests: Sequence[RideRequest]) -> list[Decision]:
    return pool.call(lambda connection: booking.book_many(connection, requests))


def test_a_batch_of_fifty_requests_in_one_zone_gets_fifty_drivers(town: Town, pool: RetryPool):
    drivers = {town.driver() for _ in range(50)}
    requests = [town.request(town.rider()) for _ in range(51)]
    decisions = batch_of(pool, requests)
    assert {decision.driver_id for decision in decisions[:50]} == drivers
    assert decisions[50].outcome == Outcome.NO_DRIVER_AVAILABLE
    assert [decision.request_id for decision in decisions] == [request.request_id for request in requests]


def test_a_batch_uses_drivers_of_the_zone_then_of_the_city_and_no_others(town: Town, pool: RetryPool):
    near, far = {town.driver() for _ in range(3)}, {town.driver(STADIUM) for _ in range(4)}
    abroad = town.driver(SOMA)
    decisions = batch_of(pool, [town.request(town.rider()) for _ in range(9)])
    assert {decision.driver_id for decision in decisions[:7]} == near | far
    assert [decision.outcome for decision in decisions[7:]] == [Outcome.NO_DRIVER_AVAILABLE] * 2
    assert town.ask("SELECT status FROM drivers WHERE driver_id = %s", abroad) == [("available",)]


def test_one_id_twice_in_a_batch_gets_one_ride_and_one_decision(town: Town, pool: RetryPool):
    town.driver(), town.driver()
    request = town.request(town.rider())
    decisions = batch_of(pool, [request, town.request(town.rider(5)), request, request])
    assert decisions[0].outcome == Outcome.ASSIGNED
    assert decisions[0] == decisions[2] == decisions[3]
    assert town.ask("SELECT count(*) FROM rides") == [(1,)]


def test_one_id_with_other_parameters_in_a_batch_is_a_mismatch_for_the_later_one(town: Town, pool: RetryPool):
    town.driver(), town.driver()
    request = town.request(town.rider())
    others = [replace(request, fare_cents=1), replace(request, rider_id=town.rider())]
    decisions = batch_of(pool, [request, *others])
    assert [decision.outcome for decision in decisions] == [
        Outcome.ASSIGNED,
        Outcome.REQUEST_MISMATCH,
        Outcome.REQUEST_MISMATCH,
    ]
    assert town.ask("SELECT count(*), sum(fare_cents) FROM rides") == [(1, 2_000)]


def test_two_requests_of_one_rider_in_a_batch_create_one_ride(town: Town, pool: RetryPool):
    for _ in range(3):
        town.driver()
    rider = town.rider()
    outcomes = [decision.outcome for decision in batch_of(pool, [town.request(rider) for _ in range(3)])]
    assert outcomes == [Outcome.ASSIGNED, Outcome.RIDER_BUSY, Outcome.RIDER_BUSY]
    assert town.ask("SELECT held_cents FROM accounts WHERE kind = 'rider'") == [(2_000,)]


def test_a_failing_item_does_not_fail_the_other_63(town: Town, pool: RetryPool):
    for _ in range(64):
        town.driver()
    requests = [town.request(town.rider()) for _ in range(64)]
    poison = requests[37]
    with town.store.connect() as connection:
        connection.execute(
            "CREATE FUNCTION choke() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'poison' USING ERRCODE = 'XX000'; END $$"
        )
        connection.execute(
            f"CREATE TRIGGER choke BEFORE INSERT ON rides FOR EACH ROW"
            f" WHEN (NEW.rider_id = {poison.rider_id}) EXECUTE FUNCTION choke()".encode()
        )
    gathered = threading.Event()

    def flush(connection: Connection, items: Sequence[RideRequest]) -> list[Decision]:
        assert gathered.wait(30)
        return booking.book_many(connection, items)

    lane: BatchQueue[RideRequest, Decision] = BatchQueue(pool, flush)
    futures = {request: lane.submit(request) for request in requests}
    gathered.set()
    lane.close()
    with pytest.raises(psycopg.errors.InternalError_, match="poison"):
        futures.pop(poison).result(0)
    assert {future.result(0).outcome for future in futures.values()} == {Outcome.ASSIGNED}
    assert len({future.result(0).driver_id for future in futures.values()}) == 63


def test_an_item_of_the_wrong_type_does_not_fail_the_others(pool: RetryPool, town: Town):
    gathered = threading.Event()

    def flush(connection: Connection, items: Sequence[tuple[int, int]]) -> list[lifecycle.OptionalRideStatus]:
        assert gathered.wait(30)
        return lifecycle.complete_many(connection, items)

    lane: BatchQueue[tuple[int, int], lifecycle.OptionalRideStatus] = BatchQueue(pool, flush)
    good = [lane.submit((number, 0)) for number in range(3)]
    bad = lane.submit(None)  # type: ignore[arg-type]
    gathered.set()
    lane.close()
    with pytest.raises(TypeError):
        bad.result(0)
    assert [future.result(0) for future in good] == [None] * 3


def test_a_conflict_in_a_batch_is_retried(town: Town, pool: RetryPool):
    town.driver()
    codes = iter(["40001", "40P01"])

    def flush(connection: Connection, items: Sequence[RideRequest]) -> list[Decision]:
        for code in codes:
            connection.execute(
                f"DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '{code}'; END $$".encode()
            )
        return booking.book_many(connection, items)

    lane: BatchQueue[RideRequest, Decision] = BatchQueue(pool, flush)
    assert lane.call(town.request(town.rider())).outcome == Outcome.ASSIGNED
    lane.close()
    assert pool.retries.by_reason == {"40001": 1, "40P01": 1}


def test_a_batch_whose_ids_are_decided_by_others_is_answered(town: Town, pool: RetryPool):
    """Each of the three ids makes the batch fail once."""
    for _ in range(6):
        town.driver()
    first, second, third = (town.request(town.rider()) for _ in range(3))
    again = [replace(request, rider_id=town.rider()) for request in (first, second, third)]
    others = [town.store.connect() for _ in range(3)]
    for other, request in zip(others, (first, second, third), strict=True):
        other.autocommit = False
        assert booking.book(other, request).outcome == Outcome.ASSIGNED
    with ThreadPoolExecutor(1) as thread:
        batch = thread.submit(batch_of, pool, again)
        for other in others:
            wait_until_blocked(town.store)
            other.commit()
            other.close()
        assert [decision.outcome for decision in batch.result(30)] == [Outcome.REQUEST_MISMATCH] * 3


def test_batches_that_deadlock_are_retried_by_the_pool(town: Town, pool: RetryPool):
    """The only case in which bookings can deadlock: each batch has a rider twice, with the ids of the other
    batch."""
    for _ in range(2):
        town.driver()
    here = [town.request(rider) for rider in [town.rider()] * 2]
    there = [
        replace(request, rider_id=rider)
        for request, rider in zip(here[::-1], [town.rider()] * 2, strict=True)
    ]
    with town.store.connect() as connection, ThreadPoolExecutor(2) as threads:
        connection.execute("SELECT pg_advisory_lock(7)")
        connection.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NEW; END'"
        )
        connection.execute(
            # In the second round of each batch.
            "CREATE TRIGGER wait BEFORE INSERT ON requests FOR EACH ROW"
            " WHEN (NEW.outcome = 'rider_busy') EXECUTE FUNCTION wait()"
        )
        batches = [threads.submit(batch_of, pool, requests) for requests in (here, there)]
        wait_until_blocked(town.store, 2)
        connection.execute("SELECT pg_advisory_unlock(7)")
        outcomes = [[decision.outcome for decision in batch.result(30)] for batch in batches]
    assert sorted(outcomes) == [
        [Outcome.ASSIGNED, Outcome.RIDER_BUSY],
        [Outcome.REQUEST_MISMATCH, Outcome.REQUEST_MISMATCH],
    ]
    assert pool.retries.by_reason == {"40P01": 1}


CHANGES = ({}, {"fare_cents": 7}, {"distance_metres": 7}, {"pickup_zone_id": 1001})


def random_requests(riders: Sequence[int], dice: random.Random) -> list[RideRequest]:
    """Random requests with repeated riders and ids. Calls with the same seed differ only in the ids."""
    requests: list[RideRequest] = []
    for _ in range(dice.randrange(1, 40)):
        if requests and dice.random() < 0.2:
            requests.append(replace(dice.choice(requests), **dice.choice(CHANGES)))
        else:
            pickup, dropoff = dice.choice(ZONES), dice.choice((*ZONES, 9))
            fare_cents = dice.choice([500, 2_000])
            requests.append(
                RideRequest(new_request_id(), dice.choice(riders), pickup, dropoff, 100, fare_cents)
            )
    return requests


def one_by_one(connection: Connection, requests: Sequence[RideRequest]) -> list[Decision]:
    return [booking.book(connection, request) for request in requests]


@pytest.mark.slow
def test_a_batch_is_decided_as_its_requests_one_by_one(town: Town, connection: Connection):
    """There are enough drivers. With too few drivers, the batch serves its requests in another order; see the
    next test."""
    stand_of = {town.driver(zone): zone for zone in ZONES for _ in range(9)}
    riders = [town.rider(cents) for cents in (10_000, 10_000, 1_500, 0) * 4] + [10**9]
    seen: Counter[Outcome] = Counter()
    for seed in range(60):
        decided = []
        for book in (one_by_one, booking.book_many):
            decisions = book(connection, random_requests(riders, random.Random(seed)))
            decided.append([(one.outcome, stand_of.get(one.driver_id or 0)) for one in decisions])
            cancel_all_rides(town, connection)
        assert decided[0] == decided[1], f"seed {seed}"
        seen.update(outcome for outcome, _ in decided[0])
    assert set(seen) >= set(Outcome) - {Outcome.NO_DRIVER_AVAILABLE, Outcome.INVALID_REQUEST}
    assert_audit_passes(town.store)


def test_a_batch_with_more_requests_than_drivers_uses_all_drivers(town: Town, connection: Connection):
    dice = random.Random(5)
    for zone in ZONES:
        town.driver(zone), town.driver(zone)
    riders = [town.rider() for _ in range(14)]
    for _ in range(20):
        askers = dice.sample(riders, dice.randrange(5, 15))
        requests = [town.request(rider, dice.choice(ZONES)) for rider in askers]
        wanted = Counter(request.pickup_zone_id // 1000 for request in requests)
        decisions = booking.book_many(connection, requests)
        served = Counter(
            request.pickup_zone_id // 1000
            for request, decision in zip(requests, decisions, strict=True)
            if decision.outcome == Outcome.ASSIGNED
        )
        assert served == Counter({1: min(wanted[1], 6), 2: min(wanted[2], 4)})
        cancel_all_rides(town, connection)
    assert_audit_passes(town.store)


def cancel_all_rides(town: Town, connection: Connection) -> None:
    rides = [ride for (ride,) in town.ask("SELECT ride_id FROM rides WHERE status = 'assigned'")]
    lifecycle.cancel_many(connection, rides)
