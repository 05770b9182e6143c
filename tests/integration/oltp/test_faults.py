"""Guarantee O1: a booking is atomic at any failure."""

import subprocess
import sys
import time
from collections.abc import Callable
from threading import Thread

import psycopg
import pytest
from concurrency import all_at_once, assert_audit_passes, everything
from factories import QUAD, STADIUM, Town
from psycopg import Connection
from statement_faults import FaultInjector, raise_at_commit, sleep_in, sleepers, wake_up

from oltp import booking, lifecycle
from oltp.store import transaction
from ridelake.ride import CancelReason, DriverStatus, Outcome, RideRequest, RideStatus, new_request_id

Operation = Callable[[Connection], object]

DOOMED_CLIENT = """
import sys
from uuid import UUID
import psycopg
from oltp import booking
from ridelake.ride import RideRequest
conninfo, request_id, rider_id, zone_id = sys.argv[1], UUID(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
connection = psycopg.connect(conninfo, autocommit=sys.argv[5] == "autocommit")
print("connected", flush=True)
booking.book(connection, RideRequest(request_id, rider_id, zone_id, zone_id, 1_500, 2_000))
print("booked", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def the_audit_passes_after_every_test(town: Town):
    yield
    assert_audit_passes(town.store)


def active_ride(town: Town, connection: Connection, started: bool) -> int:
    """The id of a new active ride."""
    town.driver()
    ride = booking.book(connection, town.request(town.rider())).ride_id
    assert ride is not None
    if started:
        lifecycle.start(connection, ride)
    return ride


def book_one(town: Town, connection: Connection) -> Operation:
    town.driver()
    request = town.request(town.rider())
    return lambda connection: booking.book(connection, request)


def refuse_one(town: Town, connection: Connection) -> Operation:
    request = town.request(town.rider())
    return lambda connection: booking.book(connection, request)


def book_some(town: Town, connection: Connection) -> Operation:
    """A batch that gets a driver in the zone, a driver in the city, a refusal, and a repeated rider."""
    town.driver(), town.driver(STADIUM)
    requests = [town.request(town.rider(cents)) for cents in (10_000, 10_000, 5)]
    requests.append(town.request(requests[0].rider_id))
    return lambda connection: booking.book_many(connection, requests)


def start_one(town: Town, connection: Connection) -> Operation:
    ride = active_ride(town, connection, started=False)
    return lambda connection: lifecycle.start(connection, ride)


def complete_some(town: Town, connection: Connection) -> Operation:
    rides = [(active_ride(town, connection, started=True), tip_cents) for tip_cents in (0, 300)]
    return lambda connection: lifecycle.complete_many(connection, rides)


def cancel_one(town: Town, connection: Connection) -> Operation:
    ride = active_ride(town, connection, started=False)
    return lambda connection: lifecycle.cancel(connection, ride)


def mark_some_as_no_show(town: Town, connection: Connection) -> Operation:
    rides = [active_ride(town, connection, started=False) for _ in range(2)]
    return lambda connection: lifecycle.cancel_many(connection, rides, CancelReason.NO_SHOW)


def refund_one(town: Town, connection: Connection) -> Operation:
    ride = active_ride(town, connection, started=True)
    lifecycle.complete(connection, ride, tip_cents=100)
    return lambda connection: lifecycle.refund(connection, ride)


def top_up_one(town: Town, connection: Connection) -> Operation:
    rider, top_up_id = town.rider(), new_request_id()
    return lambda connection: lifecycle.top_up(connection, rider, 700, top_up_id)


def expire_some(town: Town, connection: Connection) -> Operation:
    active_ride(town, connection, started=False), active_ride(town, connection, started=True)
    [(tomorrow,)] = town.ask("SELECT now() + interval '1 day'")
    return lambda connection: lifecycle.expire(connection, tomorrow, tomorrow)


# The number of rows that each operation writes. Each row has one step before its write and one after it.
WRITES: dict[Callable[[Town, Connection], Operation], dict[str, int]] = {
    book_one: dict.fromkeys(("drivers", "accounts", "rides", "payments", "ride_events", "requests"), 1),
    refuse_one: {"requests": 1},
    book_some: dict.fromkeys(("drivers", "accounts", "rides", "payments", "ride_events"), 2)
    | {"requests": 4},
    start_one: {"rides": 1, "ride_events": 1},
    complete_some: {"rides": 2, "payments": 2, "accounts": 4, "ledger": 5, "drivers": 2, "ride_events": 2},
    cancel_one: dict.fromkeys(("rides", "payments", "accounts", "drivers", "ride_events"), 1),
    mark_some_as_no_show: {"rides": 2, "payments": 2, "accounts": 4, "ledger": 2, "drivers": 2}
    | {"ride_events": 2},
    refund_one: {"payments": 1, "accounts": 1, "ledger": 1},
    top_up_one: {"ledger": 1, "accounts": 1},
    expire_some: {"rides": 2, "payments": 2, "accounts": 3, "ledger": 2, "drivers": 2, "ride_events": 2},
}


@pytest.mark.parametrize("prepare", WRITES, ids=lambda prepare: prepare.__name__)
def test_an_error_after_any_step_leaves_nothing(
    town: Town, connection: Connection, prepare: Callable[[Town, Connection], Operation]
):
    operation = prepare(town, connection)
    injector = FaultInjector.install(connection)
    before = everything(town)
    failed: list[str] = []
    while True:
        injector.arm(at=len(failed) + 1)
        try:
            operation(connection)
        except psycopg.errors.DataCorrupted as fault:
            failed.append(fault.diag.message_primary or "")
            assert everything(town) == before, f"step {len(failed)} ({failed[-1]}) left a change"
        else:
            break
    injector.disarm()
    assert everything(town) != before  # without an error it succeeds, on the same connection
    for when in ("BEFORE", "AFTER"):
        steps = [step.split()[2] for step in failed if step.startswith(when)]
        assert {table: steps.count(table) for table in set(steps)} == WRITES[prepare]


def test_a_refusal_leaves_only_its_record_also_in_a_batch(town: Town, connection: Connection):
    town.driver()
    busy = town.request(town.rider())
    booking.book(connection, busy)
    poor, unlucky = town.rider(1_999), town.rider()
    requests = [town.request(poor), town.request(unlucky), town.request(busy.rider_id)]
    before = everything(town)
    outcomes = [decision.outcome for decision in booking.book_many(connection, requests)]
    assert outcomes == [Outcome.PAYMENT_DECLINED, Outcome.NO_DRIVER_AVAILABLE, Outcome.RIDER_BUSY]
    after = everything(town)
    assert len(after.pop("requests")) == len(before.pop("requests")) + 3
    assert after == before


def test_an_error_at_the_commit_releases_driver_and_hold(town: Town, connection: Connection):
    driver = town.driver()
    request = town.request(town.rider())
    before = everything(town)
    for table in ("drivers", "accounts", "rides", "payments", "ride_events", "requests"):
        raise_at_commit(connection, table)
        with pytest.raises(psycopg.errors.RaiseException, match="too late"):
            booking.book(connection, request)
        assert everything(town) == before
        connection.execute("DROP FUNCTION refuse() CASCADE")
    assert booking.book(connection, request).driver_id == driver


def test_a_cancellation_by_the_driver_voids_the_hold_and_frees_the_driver(town: Town, connection: Connection):
    driver, rider = town.driver(), town.rider(2_000)
    ride = booking.book(connection, town.request(rider)).ride_id
    assert lifecycle.cancel(connection, ride, CancelReason.DRIVER) is RideStatus.CANCELLED
    assert town.ask("SELECT status, captured_cents FROM payments") == [("voided", 0)]
    assert town.ask("SELECT balance_cents, held_cents FROM accounts WHERE kind = 'rider'") == [(2_000, 0)]
    assert booking.book(connection, town.request(rider)).driver_id == driver


@pytest.mark.slow
def test_a_server_process_ended_before_the_commit_leaves_nothing(town: Town, connection: Connection):
    for prepare in WRITES:
        operation = prepare(town, connection)
        before = everything(town)
        doomed = town.store.connect()
        with pytest.raises(psycopg.OperationalError), transaction(doomed):
            operation(doomed)
            connection.execute("SELECT pg_terminate_backend(%s, 5000::bigint)", (doomed.info.backend_pid,))
        doomed.close()
        assert everything(town) == before, prepare.__name__
        operation(connection)  # no lock is left
        assert everything(town) != before


def test_a_server_process_ended_during_a_booking_frees_the_driver(town: Town, connection: Connection):
    driver = town.driver()
    request = town.request(town.rider())
    before = everything(town)
    sleep_in(town, "requests", 60)
    answers: list[object] = []
    caller = Thread(target=lambda: answers.extend(all_at_once(town.store, booking.book, [request])))
    caller.start()
    asleep = wait_for_sleeper(town)
    connection.execute("SELECT pg_terminate_backend(%s, 5000::bigint)", (asleep,))
    caller.join()
    assert isinstance(answers[0], psycopg.errors.AdminShutdown)
    assert everything(town) == before
    wake_up(town)
    other = town.request(town.rider())
    assert booking.book(connection, other).driver_id == driver
    # The killed call left no decision.
    assert booking.book(connection, request).outcome == Outcome.NO_DRIVER_AVAILABLE


def test_a_client_killed_between_two_statements_leaves_nothing(town: Town, connection: Connection):
    driver = town.driver()
    request, other = town.request(town.rider()), town.request(town.rider())
    before = everything(town)
    client = doomed_client(town, request, "transaction")
    assert output(client) == ["connected", "booked"]
    assert booking.book(connection, other).outcome == Outcome.NO_DRIVER_AVAILABLE
    client.kill()
    client.communicate()
    wait_until(lambda: clients(town) == 1)  # this test's connection
    assert everything(town) | {"requests": []} == before
    assert booking.book(connection, request).driver_id == driver


def test_the_request_of_a_client_killed_during_execution_is_decided_once(town: Town, connection: Connection):
    town.driver(), town.driver()
    request = town.request(town.rider())
    sleep_in(town, "payments", 0.5)
    client = doomed_client(town, request, "autocommit")
    wait_for_sleeper(town)
    client.kill()
    client.communicate()
    retried = booking.book(connection, request)  # waits for the transaction of the killed client
    wake_up(town)
    assert retried.outcome == Outcome.ASSIGNED
    assert town.ask("SELECT ride_id FROM rides") == [(retried.ride_id,)]
    assert town.ask("SELECT sum(held_cents) FROM accounts") == [(2_000,)]
    wait_until(lambda: clients(town) == 1)
    locks = town.ask(
        "SELECT count(*) FROM pg_locks WHERE database = (SELECT oid FROM pg_database"
        " WHERE datname = current_database()) AND pid <> pg_backend_pid()"
    )
    assert locks == [(0,)]


def test_a_driver_claimed_by_a_killed_client_can_go_offline(town: Town, connection: Connection):
    driver = town.driver()
    client = doomed_client(town, town.request(town.rider()), "transaction")
    assert output(client) == ["connected", "booked"]
    client.kill()
    client.communicate()
    assert lifecycle.driver_offline(connection, driver) is DriverStatus.OFFLINE


def doomed_client(town: Town, request: RideRequest, mode: str) -> "subprocess.Popen[str]":
    assert request.pickup_zone_id == QUAD
    asked = [str(request.request_id), str(request.rider_id), str(QUAD)]
    return subprocess.Popen(
        [sys.executable, "-c", DOOMED_CLIENT, town.store.conninfo, *asked, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def output(client: "subprocess.Popen[str]") -> list[str]:
    assert client.stdout is not None
    return [client.stdout.readline().strip() for _ in range(2)]


def clients(town: Town) -> int:
    """The number of client connections, without that of this query."""
    [(count,)] = town.ask(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    return int(count)


def wait_for_sleeper(town: Town) -> int:
    wait_until(lambda: bool(sleepers(town)))
    return sleepers(town)[0]


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "the condition was not met in time"
        time.sleep(0.01)
