"""Status changes: all of them, repeated, out of order and concurrent, with exact amounts."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import uuid4

import pytest
from concurrency import wait_until_blocked
from factories import QUAD, STADIUM, Town
from psycopg import Connection

from oltp import booking, lifecycle
from oltp.audit import audit
from oltp.store import Store
from ridelake.ride import CancelReason, DriverStatus, Outcome, PaymentStatus, RideStatus


@pytest.fixture(autouse=True)
def the_audit_passes_after_every_test(town: Town):
    yield
    with town.store.connect() as connection:
        report = audit(connection)
    assert report.passed, report.verdict


def test_a_completed_ride_pays_the_driver_and_the_platform_to_the_cent(town: Town, connection: Connection):
    town.driver()
    rider = town.rider(5_000)
    ride = booking.book(connection, town.request(rider, fare_cents=1_999)).ride_id
    lifecycle.start(connection, ride)
    assert lifecycle.complete(connection, ride, tip_cents=300) is RideStatus.COMPLETED
    assert town.ask("SELECT kind, amount_cents FROM ledger WHERE ride_id = %s ORDER BY kind", ride) == [
        ("pay", 1_600),
        ("commission", 399),
        ("tip", 300),
    ]
    assert town.ask(
        "SELECT kind, balance_cents, held_cents FROM accounts WHERE account_id > 2 ORDER BY kind"
    ) == [
        ("rider", 5_000 - 1_999 - 300, 0),
        ("driver", 1_900, 0),
    ]
    assert town.ask("SELECT status FROM drivers") == [("available",)]


def test_a_tip_above_the_balance_is_omitted_and_the_ride_is_completed(town: Town, connection: Connection):
    town.driver()
    ride = booking.book(connection, town.request(town.rider(2_100), fare_cents=2_000)).ride_id
    lifecycle.start(connection, ride)
    assert lifecycle.complete(connection, ride, tip_cents=101)
    assert town.ask("SELECT tip_cents, status FROM payments") == [(0, "captured")]


def test_a_fare_below_five_cents_has_no_commission(town: Town, connection: Connection):
    town.driver()
    ride = booking.book(connection, town.request(town.rider(), fare_cents=4)).ride_id
    lifecycle.start(connection, ride)
    assert lifecycle.complete(connection, ride)
    assert town.ask("SELECT kind, amount_cents FROM ledger WHERE ride_id IS NOT NULL") == [("pay", 4)]


def test_a_cancelled_ride_releases_the_money_and_the_driver(town: Town, connection: Connection):
    town.driver()
    rider = town.rider(5_000)
    ride = booking.book(connection, town.request(rider)).ride_id
    assert lifecycle.cancel(connection, ride)
    assert town.ask("SELECT balance_cents, held_cents FROM accounts WHERE kind = 'rider'") == [(5_000, 0)]
    assert town.ask("SELECT status FROM drivers") == [("available",)]
    assert booking.book(connection, town.request(rider)).outcome == Outcome.ASSIGNED


def test_status_changes_out_of_order_change_nothing_and_return_the_status(town: Town, connection: Connection):
    town.driver()
    ride = booking.book(connection, town.request(town.rider())).ride_id
    assert lifecycle.complete(connection, ride) is RideStatus.ASSIGNED  # it is not started
    assert lifecycle.start(connection, ride) is RideStatus.STARTED
    assert lifecycle.cancel(connection, ride) is RideStatus.STARTED  # it is started
    assert lifecycle.complete(connection, ride) is RideStatus.COMPLETED
    before = town.trace()
    assert lifecycle.cancel(connection, ride) is RideStatus.COMPLETED
    assert lifecycle.start(connection, ride) is RideStatus.COMPLETED
    assert lifecycle.start(connection, 10**9) is None
    assert town.trace() == before


def test_a_repeated_status_change_returns_the_same_and_changes_nothing(town: Town, connection: Connection):
    town.driver()
    ride = booking.book(connection, town.request(town.rider())).ride_id
    for move in (lifecycle.start, lambda c, r: lifecycle.complete(c, r, 100), lifecycle.refund):
        first = move(connection, ride)
        before = town.trace()
        assert move(connection, ride) == first
        assert town.trace() == before


def test_many_rides_are_changed_in_one_call_each_with_its_own_result(town: Town, connection: Connection):
    for _ in range(3):
        town.driver()
    first, second, third = (booking.book(connection, town.request(town.rider())).ride_id for _ in range(3))
    lifecycle.cancel(connection, second)
    assert lifecycle.start_many(connection, [third, second, 10**9, first, third]) == [
        RideStatus.STARTED,
        RideStatus.CANCELLED,
        None,
        RideStatus.STARTED,
        RideStatus.STARTED,
    ]
    assert (
        lifecycle.complete_many(connection, [(first, 5), (first, 5), (third, 0)])
        == [RideStatus.COMPLETED] * 3
    )
    assert town.ask("SELECT tip_cents FROM payments ORDER BY ride_id") == [(5,), (0,), (0,)]
    assert lifecycle.complete_many(connection, []) == booking.book_many(connection, []) == []


def test_a_no_show_pays_a_fee_to_the_driver_and_keeps_the_rest(town: Town, connection: Connection):
    town.driver()
    ride = booking.book(connection, town.request(town.rider(5_000), fare_cents=2_000)).ride_id
    assert lifecycle.cancel(connection, ride, CancelReason.NO_SHOW) is RideStatus.CANCELLED
    assert town.ask(
        "SELECT kind, balance_cents, held_cents FROM accounts WHERE account_id > 2 ORDER BY kind"
    ) == [("rider", 4_500, 0), ("driver", 500, 0)]
    assert town.ask("SELECT status, captured_cents FROM payments") == [("captured", 500)]
    assert town.ask("SELECT status FROM drivers") == [("available",)]


def test_a_no_show_never_costs_more_than_the_ride(town: Town, connection: Connection):
    town.driver()
    ride = booking.book(connection, town.request(town.rider(5_000), fare_cents=300)).ride_id
    lifecycle.cancel(connection, ride, CancelReason.NO_SHOW)
    assert town.ask("SELECT captured_cents FROM payments") == [(300,)]


def test_a_refund_is_paid_by_the_platform(town: Town, connection: Connection):
    town.driver()
    ride = booking.book(connection, town.request(town.rider(5_000), fare_cents=2_000)).ride_id
    assert lifecycle.refund(connection, ride) is PaymentStatus.HELD  # not captured
    lifecycle.start(connection, ride)
    lifecycle.complete(connection, ride, tip_cents=100)
    assert lifecycle.refund(connection, ride) is PaymentStatus.REFUNDED
    assert town.ask("SELECT kind, balance_cents FROM accounts WHERE account_id > 2 ORDER BY kind") == [
        ("rider", 4_900),  # the tip is not refunded
        ("driver", 1_700),
    ]
    assert lifecycle.refund(connection, 10**9) is None


def test_a_repeated_top_up_is_applied_once(town: Town, connection: Connection):
    rider, other = town.rider(0), town.rider(0)
    once = uuid4()
    first = lifecycle.top_up(connection, rider, 700, once)
    assert lifecycle.top_up(connection, rider, 700, once) == first
    assert lifecycle.top_up(connection, rider, 701, once) is None  # the id has another amount
    assert lifecycle.top_up(connection, other, 700, once) is None
    assert lifecycle.top_up(connection, 10**9, 700) is None
    assert lifecycle.top_up(connection, rider, 700) != first  # without an id, each top-up is applied
    assert town.ask("SELECT balance_cents FROM accounts WHERE kind = 'rider' ORDER BY 1") == [(0,), (1_400,)]


def test_drivers_go_online_and_offline_but_not_while_busy(town: Town, connection: Connection):
    driver = town.driver(QUAD, "offline")
    request = town.request(town.rider())
    assert booking.book(connection, request).outcome == Outcome.NO_DRIVER_AVAILABLE
    assert lifecycle.driver_online(connection, driver, STADIUM) is DriverStatus.AVAILABLE
    assert booking.book(connection, town.request(town.rider())).driver_id == driver
    assert lifecycle.driver_offline(connection, driver) is DriverStatus.BUSY
    assert lifecycle.driver_online(connection, driver, QUAD) is DriverStatus.BUSY
    assert lifecycle.driver_online(connection, 10**9, QUAD) is None
    assert lifecycle.driver_online(connection, driver, 9) is None
    assert lifecycle.driver_offline(connection, 10**9) is None


def test_a_driver_that_goes_offline_during_a_claim_is_never_offline_with_a_ride(town: Town):
    for _ in range(25):
        driver = town.driver()
        request = town.request(town.rider())
        barrier = Barrier(2)

        def leave(driver=driver, barrier=barrier):
            with town.store.connect() as connection:
                barrier.wait(30)
                return lifecycle.driver_offline(connection, driver)

        def ask(barrier=barrier, request=request):
            with town.store.connect() as connection:
                barrier.wait(30)
                return booking.book(connection, request)

        with ThreadPoolExecutor(2) as pool:
            left, decided = pool.submit(leave), pool.submit(ask)
        assert (left.result(), decided.result().outcome) in [
            (DriverStatus.OFFLINE, Outcome.NO_DRIVER_AVAILABLE),
            (DriverStatus.BUSY, Outcome.ASSIGNED),
        ]


def test_abandoned_rides_are_ended(town: Town, connection: Connection):
    for _ in range(3):
        town.driver()
    lost, begun, fresh = (booking.book(connection, town.request(town.rider())).ride_id for _ in range(3))
    lifecycle.start(connection, begun)
    lifecycle.start(connection, fresh)
    now = datetime.now(UTC)
    assert lifecycle.expire(connection, now - timedelta(hours=1), now - timedelta(hours=1)) == (0, 0)
    (started_at,) = town.ask("SELECT started_at FROM rides WHERE ride_id = %s", fresh)[0]
    assert lifecycle.expire(connection, now + timedelta(hours=1), started_at) == (1, 1)
    assert town.ask("SELECT status, cancel_reason FROM rides ORDER BY ride_id") == [
        ("cancelled", "expired"),
        ("completed", None),
        ("started", None),
    ]
    assert lost


def test_expire_rides_locks_in_the_common_order(town: Town, connection: Connection):
    """While `expire` waits for the lock on a started ride, it has not locked a newer assigned ride."""
    town.driver(), town.driver()
    begun, waiting = (booking.book(connection, town.request(town.rider())).ride_id for _ in range(2))
    lifecycle.start(connection, begun)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with town.store.connect() as other, ThreadPoolExecutor(1) as thread, other.transaction():
        lifecycle.start(other, begun)  # keeps the lock
        ending = thread.submit(lifecycle.expire, connection, tomorrow, tomorrow)
        wait_until_blocked(town.store)
        assert lifecycle.cancel(other, waiting) is RideStatus.CANCELLED
    assert ending.result(30) == (1, 1)


def test_a_ride_that_is_completed_twice_in_a_batch_keeps_its_first_tip(town: Town, connection: Connection):
    rides = []
    for _ in range(2):
        town.driver()
        rides.append(booking.book(connection, town.request(town.rider())).ride_id or 0)
    lifecycle.start_many(connection, rides)
    batch = [(rides[0], 0), (rides[1], 300), (rides[0], 900), (rides[1], 0)]
    assert lifecycle.complete_many(connection, batch) == [RideStatus.COMPLETED] * 4
    assert town.ask("SELECT tip_cents FROM payments ORDER BY ride_id") == [(0,), (300,)]


@pytest.mark.slow
def test_concurrent_status_changes_end_in_one_valid_state(town: Town):
    for _ in range(20):
        town.driver()
        with town.store.connect() as connection:
            ride = booking.book(connection, town.request(town.rider())).ride_id
        steps = [lifecycle.start, lifecycle.cancel, lifecycle.complete, lifecycle.cancel, lifecycle.complete]
        barrier = Barrier(len(steps))

        def change(move, ride=ride, barrier=barrier):
            with town.store.connect() as connection:
                barrier.wait(30)
                return move(connection, ride)

        with ThreadPoolExecutor(len(steps)) as pool:
            list(pool.map(change, steps))


def test_status_changes_find_the_ride_by_its_key_not_by_the_partial_index(seeded_store: Store, town: Town):
    """While an old snapshot exists, the partial indexes of active rides have many dead entries."""
    seen = "SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE indexrelname LIKE 'one_active%'"
    with seeded_store.connect() as connection:
        riders = connection.execute("SELECT rider_id FROM riders WHERE city_id = 1 LIMIT 3").fetchall()
        for (rider_id,) in riders:
            lifecycle.top_up(connection, rider_id, 5_000)
        rides = [booking.book(connection, town.request(rider_id)).ride_id or 0 for (rider_id,) in riders]
        connection.execute("ANALYZE rides")
        connection.execute("SELECT pg_stat_force_next_flush()")
    with seeded_store.connect() as connection:  # a new session, without cached plans
        before = connection.execute(seen).fetchall()
        assert lifecycle.start(connection, rides[0]) is RideStatus.STARTED
        assert lifecycle.complete(connection, rides[0]) is RideStatus.COMPLETED
        lifecycle.cancel(connection, rides[1])
        lifecycle.cancel(connection, rides[2], CancelReason.NO_SHOW)
        connection.execute("SELECT pg_stat_force_next_flush()")
        assert connection.execute(seen).fetchall() == before


def test_a_clock_that_is_set_back_does_not_break_a_ride(town: Town, connection: Connection):
    """A failover can change to a machine whose clock is behind."""
    town.driver()
    ride = booking.book(connection, town.request(town.rider(), fare_cents=2_000)).ride_id
    connection.execute("UPDATE rides SET assigned_at = assigned_at + interval '1 hour'")
    # Disable the trigger that makes events append-only.
    connection.execute("SET session_replication_role = replica")
    connection.execute("UPDATE ride_events SET happened_at = happened_at + interval '1 hour'")
    connection.execute("RESET session_replication_role")
    assert lifecycle.start(connection, ride) is RideStatus.STARTED
    assert lifecycle.complete(connection, ride) is RideStatus.COMPLETED
    assert town.ask("SELECT started_at = assigned_at, ended_at = assigned_at FROM rides") == [(True, True)]
