"""Guarantees O1 to O4: atomic bookings, one active ride per driver, one decision per id, exact amounts."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

import psycopg
import pytest
from factories import QUAD, SOMA, STADIUM, Town
from psycopg import Connection, errors

from oltp import booking
from oltp.audit import audit
from ridelake.errors import UsageError
from ridelake.ride import (
    Decision,
    Outcome,
    RideRequest,
    new_request_id,
)


@pytest.fixture(autouse=True)
def the_audit_passes_after_every_test(town: Town):
    yield
    with town.store.connect() as connection:
        report = audit(connection)
    assert report.passed, report.verdict


ID_OF_A_FILE = "019a0000-0000-8000-8000-000000000001"
KINDS = ("int", "int", "int", "bigint")
SECOND_ACTIVE_RIDE = """
    INSERT INTO rides SELECT (jsonb_populate_record(rides, jsonb_build_object(
        'ride_id', 0, 'rider_id', 0, 'request_id', gen_random_uuid()))).* FROM rides"""
TRANSFER_TO_ITSELF = """
    INSERT INTO ledger (from_account_id, to_account_id, amount_cents, moved_at, kind)
    VALUES (1, 1, 5, now(), 'top_up')"""


def at_once(town: Town, requests: list[RideRequest]) -> list[Decision]:
    """Send all requests concurrently, each on its own connection."""
    barrier = Barrier(len(requests))

    def client(request: RideRequest) -> Decision:
        with town.store.connect() as connection:
            barrier.wait(30)
            return booking.book(connection, request)

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(client, requests))


def test_a_ride_its_hold_and_its_driver_appear_together(town: Town, connection: Connection):
    driver, rider = town.driver(), town.rider(5_000)
    decision = booking.book(connection, town.request(rider, fare_cents=2_000))
    assert (decision.outcome, decision.driver_id) == (Outcome.ASSIGNED, driver)
    assert town.ask("SELECT rider_id, driver_id, status FROM rides") == [(rider, driver, "assigned")]
    assert town.ask("SELECT ride_id, held_cents, status FROM payments") == [(decision.ride_id, 2_000, "held")]
    assert town.ask("SELECT balance_cents, held_cents FROM accounts WHERE kind = 'rider'") == [(5_000, 2_000)]
    assert town.ask("SELECT status FROM drivers") == [("busy",)]


def test_a_declined_payment_assigns_no_driver(town: Town, connection: Connection):
    town.driver()
    request = town.request(town.rider(1_999), fare_cents=2_000)
    before = town.trace()
    assert booking.book(connection, request).outcome == Outcome.PAYMENT_DECLINED
    assert town.trace() == before
    assert town.ask("SELECT outcome FROM requests") == [("payment_declined",)]


def test_a_request_without_an_available_driver_is_not_charged(town: Town, connection: Connection):
    town.driver(SOMA)
    town.driver(QUAD, "offline")
    request = town.request(town.rider())
    before = town.trace()
    assert booking.book(connection, request).outcome == Outcome.NO_DRIVER_AVAILABLE
    assert town.trace() == before


@pytest.mark.parametrize(
    ("rider", "pickup", "dropoff", "outcome"),
    [
        (999_999, QUAD, QUAD, Outcome.UNKNOWN_RIDER),
        (None, 9, QUAD, Outcome.UNKNOWN_ZONE),
        (None, QUAD, 9, Outcome.UNKNOWN_ZONE),
        (None, QUAD, SOMA, Outcome.UNKNOWN_ZONE),  # zones of two cities
    ],
)
def test_an_unknown_rider_or_zone_is_refused_and_leaves_only_its_record(
    town: Town, connection: Connection, rider: int | None, pickup: int, dropoff: int, outcome: Outcome
):
    town.driver()
    request = RideRequest(new_request_id(), rider or town.rider(), pickup, dropoff, 100, 500)
    before = town.trace()
    assert booking.book(connection, request).outcome == outcome
    assert town.trace() == before


@pytest.mark.parametrize(("metres", "cents"), [(100, 0), (100, -500), (-1, 500), (2**31, 500), (1, 2**63)])
def test_an_invalid_request_cannot_be_constructed(metres: int, cents: int):
    with pytest.raises(UsageError, match="invalid request"):
        RideRequest(new_request_id(), 1, QUAD, QUAD, metres, cents)


def test_the_largest_fare_is_declined(town: Town, connection: Connection):
    town.driver()
    assert (
        booking.book(connection, town.request(town.rider(), fare_cents=2**62)).outcome
        == Outcome.PAYMENT_DECLINED
    )


def test_an_id_of_version_8_is_not_accepted_from_a_client():
    with pytest.raises(UsageError, match=f"invalid request: {ID_OF_A_FILE} is a UUID of version 8"):
        RideRequest(UUID(ID_OF_A_FILE), 1, QUAD, QUAD, 100, 500)


@pytest.mark.parametrize(
    ("request_id", "arguments"),
    [
        ("gen_random_uuid()", "1002, 1002, 100, 0"),
        ("gen_random_uuid()", "1002, 1002, -1, 500"),
        ("gen_random_uuid()", "1002, NULL, 100, 500"),
        ("NULL::uuid", "1002, 1002, 100, 500"),
        (f"'{ID_OF_A_FILE}'::uuid", "1002, 1002, 100, 500"),
    ],
)
def test_an_invalid_request_from_raw_sql_is_refused_and_leaves_nothing(
    town: Town, connection: Connection, request_id: str, arguments: str
):
    town.driver()
    rider = town.rider()
    before = town.trace()
    for call in (
        f"book_ride({request_id}, {rider}, {arguments})",
        f"book_rides(ARRAY[{request_id}], ARRAY[{rider}::bigint], "
        + ", ".join(f"ARRAY[{one}]::{kind}[]" for one, kind in zip(arguments.split(", "), KINDS, strict=True))
        + ")",
    ):
        assert town.ask(f"SELECT outcome FROM {call}") == [("invalid_request",)]
    assert town.trace() == before
    assert town.ask("SELECT count(*) FROM requests") == [(0,)]


def test_a_driver_in_the_zone_is_preferred_to_one_in_the_city(town: Town, connection: Connection):
    town.driver(STADIUM)
    near = town.driver(QUAD)
    assert booking.book(connection, town.request(town.rider())).driver_id == near
    # This request gets the driver in another zone of the city.
    assert booking.book(connection, town.request(town.rider())).outcome == Outcome.ASSIGNED


def test_sixty_four_requests_for_one_driver_assign_exactly_one(town: Town):
    town.driver()
    decisions = at_once(town, [town.request(town.rider()) for _ in range(64)])
    outcomes = [decision.outcome for decision in decisions]
    assert outcomes.count(Outcome.ASSIGNED) == 1
    assert outcomes.count(Outcome.NO_DRIVER_AVAILABLE) == 63
    assert town.ask("SELECT sum(held_cents) FROM accounts") == [(2_000,)]


def test_as_many_drivers_as_requests_gives_each_request_a_driver(town: Town):
    drivers = {town.driver(QUAD if number % 2 else STADIUM) for number in range(24)}
    decisions = at_once(town, [town.request(town.rider()) for _ in range(24)])
    assert {decision.driver_id for decision in decisions} == drivers


def test_two_concurrent_requests_of_one_rider_create_one_ride(town: Town):
    rider = town.rider()
    for _ in range(8):
        town.driver()
    outcomes = [decision.outcome for decision in at_once(town, [town.request(rider) for _ in range(8)])]
    assert sorted(outcomes) == [Outcome.ASSIGNED] + [Outcome.RIDER_BUSY] * 7


def test_a_retried_request_charges_once(town: Town, connection: Connection):
    town.driver(), town.driver()
    request = town.request(town.rider())
    first = booking.book(connection, request)
    before = town.trace()
    assert booking.book(connection, request) == first
    assert town.trace() == before


def test_a_repeated_request_gets_the_same_refusal_although_a_driver_is_available(
    town: Town, connection: Connection
):
    request = town.request(town.rider())
    assert booking.book(connection, request).outcome == Outcome.NO_DRIVER_AVAILABLE
    town.driver()
    assert booking.book(connection, request).outcome == Outcome.NO_DRIVER_AVAILABLE


def test_thirty_two_sends_of_one_request_get_one_decision(town: Town):
    town.driver(), town.driver()
    request = town.request(town.rider())
    decisions = at_once(town, [request] * 32)
    assert len(set(decisions)) == 1
    assert town.ask("SELECT count(*) FROM rides") == [(1,)]


def test_the_same_id_with_other_parameters_is_an_error(town: Town, connection: Connection):
    town.driver()
    rider = town.rider()
    request = town.request(rider)
    booking.book(connection, request)
    for other in (
        RideRequest(request.request_id, town.rider(), QUAD, QUAD, 1_500, 2_000),
        RideRequest(request.request_id, rider, STADIUM, QUAD, 1_500, 2_000),
        RideRequest(request.request_id, rider, QUAD, STADIUM, 1_500, 2_000),
        RideRequest(request.request_id, rider, QUAD, QUAD, 1_501, 2_000),
        RideRequest(request.request_id, rider, QUAD, QUAD, 1_500, 2_001),
    ):
        before = town.trace()
        assert booking.book(connection, other) == Decision(
            request.request_id, Outcome.REQUEST_MISMATCH, None, None
        )
        assert town.trace() == before


def test_one_id_from_two_concurrent_riders_is_decided_for_one(town: Town):
    town.driver(), town.driver()
    request_id = uuid4()
    rivals = [RideRequest(request_id, town.rider(), QUAD, QUAD, 10, 500) for _ in range(2)]
    outcomes = sorted(decision.outcome for decision in at_once(town, rivals))
    assert outcomes == [Outcome.ASSIGNED, Outcome.REQUEST_MISMATCH]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        (SECOND_ACTIVE_RIDE, errors.UniqueViolation),
        (
            "UPDATE rides SET status = 'completed', started_at = now(), ended_at = now()",
            errors.CheckViolation,
        ),
        ("UPDATE payments SET status = 'captured', captured_cents = held_cents + 1", errors.CheckViolation),
        ("UPDATE accounts SET balance_cents = held_cents - 1 WHERE kind = 'rider'", errors.CheckViolation),
        ("UPDATE drivers SET status = 'offline'", errors.CheckViolation),
        ("UPDATE ledger SET amount_cents = amount_cents + 1", errors.CheckViolation),
        ("DELETE FROM ledger", errors.CheckViolation),
        ("UPDATE ride_events SET step = step + 1", errors.CheckViolation),
        # A cancellation without a reason.
        ("UPDATE rides SET status = 'cancelled', ended_at = now()", errors.CheckViolation),
        ("UPDATE payments SET status = 'refunded', captured_cents = held_cents", errors.CheckViolation),
        ("INSERT INTO payments (ride_id, held_cents) SELECT ride_id, 1 FROM rides", errors.UniqueViolation),
        (TRANSFER_TO_ITSELF, errors.CheckViolation),
    ],
)
def test_constraints_reject_raw_sql(
    town: Town, connection: Connection, statement: str, error: type[psycopg.Error]
):
    town.driver()
    booking.book(connection, town.request(town.rider()))
    with pytest.raises(error):
        connection.execute(statement.encode())


def test_a_client_killed_during_a_booking_leaves_nothing(town: Town, connection: Connection):
    town.driver()
    request = town.request(town.rider())
    before = town.trace()
    killed = town.store.connect()
    with pytest.raises(psycopg.OperationalError), killed.transaction():
        assert booking.book(killed, request).outcome == Outcome.ASSIGNED
        connection.execute("SELECT pg_terminate_backend(%s, 5000::bigint)", (killed.info.backend_pid,))
        killed.execute("SELECT 1")
    killed.close()
    assert town.trace() == before
    assert booking.book(connection, request).outcome == Outcome.ASSIGNED  # the driver is available again


def test_request_ids_are_version_7_and_ordered_by_time():
    ids = [new_request_id() for _ in range(100)]
    assert {(number.version, number.variant) for number in ids} == {(7, UUID(int=0x8 << 60).variant)}
    assert [number.int >> 80 for number in ids] == sorted(number.int >> 80 for number in ids)
