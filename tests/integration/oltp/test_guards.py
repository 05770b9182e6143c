"""Each safeguard is needed, and its absence is detected. Each test removes safeguards in its own store. Then
either another safeguard prevents the damage, or the audit finds it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files

import psycopg
import pytest
from concurrency import all_at_once, assert_audit_passes, broken_conditions, wait_until_blocked
from factories import QUAD, STADIUM, Town
from psycopg import Connection, errors

from oltp import booking, lifecycle
from oltp.pool import RetryPool
from oltp.store import transaction
from ridelake.ride import Decision, Outcome, RideRequest

SECOND_ACTIVE_RIDE = b"""
    INSERT INTO rides SELECT (jsonb_populate_record(rides, jsonb_build_object(
        'ride_id', 1000000, 'rider_id', %s::bigint, 'request_id', gen_random_uuid()))).* FROM rides"""
SECOND_RIDE_OF_THE_RIDER = SECOND_ACTIVE_RIDE.replace(b"rider_id", b"driver_id")
CLAIM_LOCK = "LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"
RIDER_LOCK = "    FOR NO KEY UPDATE;\n\n    SELECT q.* INTO v_earlier"
HOLD = "UPDATE accounts SET held_cents = held_cents + p_fare_cents WHERE account_id = v_account.account_id;"
REPLAY = "FROM requests AS q WHERE q.request_id = p_request_id;"
# Makes concurrent transactions overlap between check and write.
SLEEP = "PERFORM pg_sleep(0.5);"


def mutate(connection: Connection, file: str, function: str, *changes: tuple[str, str]) -> None:
    """Redefine a function with changes of its text. Every change must match."""
    text = files("oltp").joinpath(file).read_text()
    start = text.index(f"CREATE FUNCTION {function}(")
    body = text[start : text.index("END $$;", start)] + "END $$;"
    for guard, without in changes:
        assert guard in body, f"{guard!r} is not in {function}"
        body = body.replace(guard, without)
    connection.execute(body.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1).encode())


def send(connection: Connection, request: RideRequest) -> Decision:
    """Like `booking.book`, but without its second attempt."""
    row = connection.execute(booking.BOOK, booking.columns(request)).fetchone()
    assert row is not None
    return Decision(request.request_id, Outcome(row[0]), row[1], row[2])


def outcomes(answers: list[Decision | Exception]) -> list[str]:
    return sorted(
        answer.outcome if isinstance(answer, Decision) else type(answer).__name__ for answer in answers
    )


def rides(town: Town) -> int:
    [(count,)] = town.ask("SELECT count(*) FROM rides")
    return int(count)


def test_without_the_index_a_second_ride_is_inserted_and_the_audit_finds_it(
    town: Town, connection: Connection
):
    town.driver()
    booking.book(connection, town.request(town.rider()))
    intruder = (town.rider(),)
    with pytest.raises(errors.UniqueViolation, match="one_active_ride_per_driver"):
        connection.execute(SECOND_ACTIVE_RIDE, intruder)
    connection.execute("DROP INDEX one_active_ride_per_driver")
    connection.execute(SECOND_ACTIVE_RIDE, intruder)
    seen = broken_conditions(town.store)
    assert {"busy_means_one_active_ride", "rides_do_not_overlap"} <= seen


def test_without_the_index_a_second_ride_of_a_rider_is_inserted_and_the_audit_finds_it(
    town: Town, connection: Connection
):
    town.driver()
    booking.book(connection, town.request(town.rider()))
    another = (town.driver(),)
    with pytest.raises(errors.UniqueViolation, match="one_active_ride_per_rider"):
        connection.execute(SECOND_RIDE_OF_THE_RIDER, another)
    connection.execute("DROP INDEX one_active_ride_per_rider")
    connection.execute(SECOND_RIDE_OF_THE_RIDER, another)
    assert "rides_do_not_overlap" in broken_conditions(town.store)


def test_without_the_index_the_row_lock_still_prevents_a_double_booking(town: Town, connection: Connection):
    connection.execute("DROP INDEX one_active_ride_per_driver")
    town.driver()
    requests = [town.request(town.rider()) for _ in range(24)]
    answers = outcomes(all_at_once(town.store, booking.book, requests))
    assert answers == [Outcome.ASSIGNED] + [Outcome.NO_DRIVER_AVAILABLE] * 23
    assert_audit_passes(town.store)


def without_the_claim(town: Town, connection: Connection) -> list[RideRequest]:
    """Remove the row lock from the search for a driver. Returns many requests for one driver."""
    mutate(
        connection,
        "booking.sql",
        "claim_driver",
        (f"{CLAIM_LOCK})", "LIMIT 1) AND pg_sleep(0.3) IS NOT NULL"),  # between check and write
    )
    town.driver()
    return [town.request(town.rider()) for _ in range(12)]


def test_without_the_row_lock_the_index_still_prevents_a_double_booking(town: Town, connection: Connection):
    requests = without_the_claim(town, connection)
    answers = outcomes(all_at_once(town.store, send, requests[:6]))
    assert answers.count(Outcome.ASSIGNED) == 1
    assert "UniqueViolation" in answers  # an error instead of a decision
    [(ride,)] = town.ask("SELECT ride_id FROM rides")
    lifecycle.cancel(connection, ride)
    answers = outcomes(all_at_once(town.store, booking.book, requests[6:]))  # `book` retries once
    assert answers.count(Outcome.ASSIGNED) == 1
    assert town.ask("SELECT count(*) FROM rides WHERE status = 'assigned'") == [(1,)]
    assert_audit_passes(town.store)


@pytest.mark.slow
def test_without_row_lock_and_index_drivers_are_booked_twice_and_the_audit_finds_it(
    town: Town, connection: Connection
):
    requests = without_the_claim(town, connection)
    connection.execute("DROP INDEX one_active_ride_per_driver")
    all_at_once(town.store, booking.book, requests)
    assert rides(town) > 1
    seen = broken_conditions(town.store)
    assert {"busy_means_one_active_ride", "rides_do_not_overlap"} <= seen


def test_a_batch_that_claims_its_own_drivers_again_is_rejected_by_the_index(
    town: Town, connection: Connection
):
    """SKIP LOCKED does not skip rows that the same statement has locked. The batch must exclude them."""
    mutate(
        connection,
        "booking.sql",
        "book_rides",
        ("AND d.driver_id NOT IN (SELECT driver_id FROM near)", ""),
    )
    town.driver(QUAD)
    requests = [town.request(town.rider(), zone) for zone in (QUAD, STADIUM)]
    with pytest.raises(errors.UniqueViolation, match="one_active_ride_per_driver"):
        booking.book_many(connection, requests)
    assert rides(town) == 0
    connection.execute("DROP INDEX one_active_ride_per_driver")
    booking.book_many(connection, requests)
    assert "busy_means_one_active_ride" in broken_conditions(town.store)


def send_in_a_batch(connection: Connection, request: RideRequest) -> Decision:
    (decision,) = booking.book_many(connection, [request])
    return decision


@pytest.mark.parametrize("book", [send, send_in_a_batch])
def test_a_second_request_of_a_rider_waits_for_the_first_and_is_refused(
    town: Town, connection: Connection, book: Callable[[Connection, RideRequest], Decision]
):
    """Without the lock on the rider's account, the index would raise an error instead."""
    town.driver(), town.driver()
    rider = town.rider()
    with ThreadPoolExecutor(1) as pool:
        with transaction(connection):
            assert book(connection, town.request(rider)).outcome == Outcome.ASSIGNED
            second = pool.submit(all_at_once, town.store, book, [town.request(rider)])
            wait_until_blocked(town.store)
        assert outcomes(second.result()) == [Outcome.RIDER_BUSY]
    assert rides(town) == 1


def without_the_queue_of_the_rider(town: Town, connection: Connection) -> list[RideRequest]:
    mutate(
        connection,
        "booking.sql",
        "book_ride",
        (RIDER_LOCK, RIDER_LOCK.replace("    FOR NO KEY UPDATE;", "    ;")),
        ("driver_id := claim_driver", f"{SLEEP} driver_id := claim_driver"),
    )
    for _ in range(6):
        town.driver()
    rider = town.rider(2_500)
    return [town.request(rider) for _ in range(6)]


def test_without_the_lock_on_the_rider_one_of_six_requests_gets_a_ride(town: Town, connection: Connection):
    answers = outcomes(
        all_at_once(town.store, booking.book, without_the_queue_of_the_rider(town, connection))
    )
    assert answers.count(Outcome.ASSIGNED) == 1
    assert set(answers) & {"UniqueViolation", "CheckViolation"}  # an error instead of `rider_busy`
    assert_audit_passes(town.store)


def test_without_lock_and_index_the_check_constraint_still_protects_the_balance(
    town: Town, connection: Connection
):
    requests = without_the_queue_of_the_rider(town, connection)
    connection.execute("DROP INDEX one_active_ride_per_rider")
    answers = outcomes(all_at_once(town.store, booking.book, requests))
    assert answers.count(Outcome.ASSIGNED) == 1  # the balance is sufficient for one
    assert "CheckViolation" in answers
    assert_audit_passes(town.store)


def test_without_lock_index_and_constraint_the_audit_finds_two_rides_and_the_debt(
    town: Town, connection: Connection
):
    requests = without_the_queue_of_the_rider(town, connection)
    connection.execute("DROP INDEX one_active_ride_per_rider")
    connection.execute(
        "DO $$ DECLARE c text; BEGIN FOR c IN SELECT conname FROM pg_constraint"
        " WHERE conrelid = 'accounts'::regclass AND contype = 'c'"
        " LOOP EXECUTE format('ALTER TABLE accounts DROP CONSTRAINT %I', c); END LOOP; END $$"
    )
    all_at_once(town.store, booking.book, requests)
    assert rides(town) == 6
    assert {"balances_cover_holds", "rides_do_not_overlap"} <= broken_conditions(town.store)


def book_and_hold_apart(connection: Connection, request: RideRequest, dies: bool) -> Decision:
    """Book the ride, then hold the fare in a second transaction. With `dies` only book the ride."""
    decision = booking.book(connection, request)
    if not dies and decision.outcome == Outcome.ASSIGNED:
        connection.execute(
            "UPDATE accounts SET held_cents = held_cents + %s"
            " WHERE account_id = (SELECT account_id FROM riders WHERE rider_id = %s)",
            (request.fare_cents, request.rider_id),
        )
    return decision


def test_a_hold_outside_of_the_transaction_is_lost_with_its_client_and_the_audit_finds_it(
    town: Town, connection: Connection
):
    mutate(connection, "booking.sql", "book_ride", (HOLD, ""))
    town.driver(), town.driver()
    book_and_hold_apart(connection, town.request(town.rider()), dies=False)
    assert_audit_passes(town.store)  # correct if the client does not fail
    book_and_hold_apart(connection, town.request(town.rider()), dies=True)
    assert broken_conditions(town.store) == {"balances_are_sums"}


def test_a_charge_committed_before_the_ride_remains_without_a_ride(town: Town, connection: Connection):
    """The opposite order: hold the fare first, then search for a driver. Without a driver there is a hold and
    no ride."""
    mutate(connection, "booking.sql", "book_ride", (HOLD, ""))
    rider = town.rider()
    connection.execute(
        "UPDATE accounts SET held_cents = 2000 WHERE account_id = (SELECT account_id FROM riders"
        " WHERE rider_id = %s)",
        (rider,),
    )
    assert booking.book(connection, town.request(rider)).outcome == Outcome.NO_DRIVER_AVAILABLE
    assert broken_conditions(town.store) == {"balances_are_sums"}


def send_twice(town: Town, connection: Connection) -> list[Decision]:
    """Book and complete a ride, then send the request again, as after a lost answer."""
    town.driver(), town.driver()
    request = town.request(town.rider())
    with RetryPool(town.store, size=1) as pool:
        first = pool.call(partial(booking.book, request=request))
        lifecycle.start(connection, first.ride_id or 0)
        lifecycle.complete(connection, first.ride_id or 0)
        return [first, pool.call(partial(booking.book, request=request))]


def test_with_its_key_a_request_sent_twice_is_one_ride(town: Town, connection: Connection):
    first, again = send_twice(town, connection)
    assert first == again
    assert rides(town) == 1


def test_without_the_look_up_of_the_decision_the_key_still_prevents_a_second_ride(
    town: Town, connection: Connection
):
    mutate(connection, "booking.sql", "book_ride", (REPLAY, REPLAY.replace(";", " AND false;")))
    with pytest.raises(errors.UniqueViolation):
        send_twice(town, connection)
    assert rides(town) == 1
    assert_audit_passes(town.store)


def test_without_the_key_a_request_sent_twice_is_charged_twice_and_the_audit_finds_it(
    town: Town, connection: Connection
):
    mutate(connection, "booking.sql", "book_ride", (REPLAY, REPLAY.replace(";", " AND false;")))
    connection.execute("ALTER TABLE requests DROP CONSTRAINT requests_pkey")
    with pytest.raises(errors.UniqueViolation, match="rides_request_id_key"):
        send_twice(town, connection)
    assert rides(town) == 1
    connection.execute("ALTER TABLE rides DROP CONSTRAINT rides_request_id_key")
    first, again = send_twice(town, connection)
    assert first.ride_id != again.ride_id
    assert rides(town) == 3
    assert "each_decision_made_one_ride" in broken_conditions(town.store)


def test_without_the_condition_on_the_times_a_ride_is_still_paid_once(town: Town, connection: Connection):
    mutate(
        connection, "lifecycle.sql", "complete_rides", ("AND started_at IS NOT NULL AND ended_at IS NULL", "")
    )
    town.driver()
    ride = booking.book(connection, town.request(town.rider())).ride_id or 0
    with pytest.raises(errors.CheckViolation):  # the ride is not started
        lifecycle.complete(connection, ride)
    lifecycle.start(connection, ride)
    lifecycle.complete(connection, ride)
    # The hold is already captured, and `ledger` has a unique key on ride and kind.
    with pytest.raises(psycopg.IntegrityError):
        lifecycle.complete(connection, ride)
    assert_audit_passes(town.store)
