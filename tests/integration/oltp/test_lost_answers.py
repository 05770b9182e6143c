"""Guarantee O3 with lost messages: a request that is sent again with its id is executed once."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from concurrency import assert_audit_passes
from factories import Town
from proxy import Loss, Proxy, proxied
from psycopg import Connection

from oltp import booking, lifecycle
from oltp.batching import Batcher
from oltp.pool import RetryPool
from oltp.retry import NO_ANSWER
from ridelake.ride import Decision, Outcome, PaymentStatus, RideStatus, new_request_id


@pytest.fixture
def lossy(town: Town) -> Iterator[tuple[Proxy, RetryPool]]:
    """A pool of one connection, through a proxy that can drop messages."""
    with proxied(town.store) as (proxy, store), RetryPool(store, size=1) as pool:
        yield proxy, pool
    assert_audit_passes(town.store)


def lose(proxy: Proxy, pool: RetryPool, loss: Loss, call: Callable[[], object]) -> object:
    """The result of `call`, which loses its connection once."""
    before, cut = pool.retries.by_reason[NO_ANSWER], len(proxy.lost)
    proxy.lose_once(loss)
    answer = call()
    assert proxy.lost[cut:] == [loss]
    assert pool.retries.by_reason[NO_ANSWER] > before
    return answer


def test_a_booking_is_made_once_after_a_lost_message(town: Town, lossy: tuple[Proxy, RetryPool]):
    proxy, pool = lossy
    for number, loss in enumerate(Loss, start=1):
        town.driver(), town.driver()
        request = town.request(town.rider())
        decision = lose(
            proxy, pool, loss, lambda request=request: pool.call(lambda c: booking.book(c, request))
        )
        assert isinstance(decision, Decision)
        assert decision.outcome == Outcome.ASSIGNED
        assert town.ask("SELECT count(*) FROM rides") == [(number,)]
        assert town.ask("SELECT count(*) FROM drivers WHERE status = 'busy'") == [(number,)]
        assert town.ask("SELECT sum(held_cents) FROM accounts") == [(2_000 * number,)]
        assert pool.call(lambda c, request=request: booking.book(c, request)) == decision


def test_a_batch_is_booked_once_after_a_lost_message(town: Town, lossy: tuple[Proxy, RetryPool]):
    proxy, pool = lossy
    for number, loss in enumerate(Loss, start=1):
        for _ in range(10):
            town.driver()
        requests = [town.request(town.rider()) for _ in range(8)]
        with Batcher(pool, booking_workers=1) as batcher:

            def call(batcher=batcher, requests=requests) -> list[Decision]:
                futures = [batcher.bookings.submit(request) for request in requests]
                return [future.result(30) for future in futures]

            decisions = lose(proxy, pool, loss, call)
            assert decisions == call()
        assert {decision.outcome for decision in decisions} == {Outcome.ASSIGNED}
        assert town.ask("SELECT count(*), count(DISTINCT driver_id) FROM rides") == [(8 * number, 8 * number)]
        assert town.ask("SELECT sum(held_cents) FROM accounts") == [(8 * 2_000 * number,)]


def test_a_ride_is_paid_once_after_a_lost_message(
    town: Town, connection: Connection, lossy: tuple[Proxy, RetryPool]
):
    proxy, pool = lossy
    driver = town.driver()
    for number, loss in enumerate(Loss, start=1):
        ride = booking.book(connection, town.request(town.rider())).ride_id
        steps: list[tuple[Callable[[], object], object]] = [
            (lambda ride=ride: pool.call(lambda c: lifecycle.start(c, ride)), RideStatus.STARTED),
            (lambda ride=ride: pool.call(lambda c: lifecycle.complete(c, ride, 300)), RideStatus.COMPLETED),
            (lambda ride=ride: pool.call(lambda c: lifecycle.refund(c, ride)), PaymentStatus.REFUNDED),
        ]
        for call, status in steps:
            assert lose(proxy, pool, loss, call) == status
        earned = town.ask("SELECT balance_cents FROM accounts JOIN drivers USING (account_id)")
        assert earned == [(number * (1_600 + 300),)]
        assert town.ask("SELECT status FROM drivers WHERE driver_id = %s", driver) == [("available",)]
        kinds = town.ask("SELECT kind FROM ledger WHERE ride_id = %s ORDER BY kind", ride)
        assert kinds == [("pay",), ("commission",), ("tip",), ("refund",)]


def test_a_top_up_with_an_id_is_applied_once_after_a_lost_message(town: Town, lossy: tuple[Proxy, RetryPool]):
    proxy, pool = lossy
    rider = town.rider(0)
    for number, loss in enumerate(Loss, start=1):
        top_up_id = new_request_id()

        def call(top_up_id=top_up_id) -> int | None:
            return pool.call(lambda c: lifecycle.top_up(c, rider, 700, top_up_id))

        assert lose(proxy, pool, loss, call) == call()
        assert town.ask("SELECT balance_cents FROM accounts WHERE kind = 'rider'") == [(700 * number,)]


def test_a_top_up_without_an_id_is_applied_twice_after_a_lost_message(
    town: Town, lossy: tuple[Proxy, RetryPool]
):
    proxy, pool = lossy
    rider = town.rider(0)
    lose(proxy, pool, Loss.REPLY, lambda: pool.call(lambda c: lifecycle.top_up(c, rider, 700)))
    assert town.ask("SELECT balance_cents FROM accounts WHERE kind = 'rider'") == [(1_400,)]


def test_with_every_tenth_message_lost_each_rider_rides_and_pays_once(town: Town):
    riders = [town.rider(10**6) for _ in range(12)]
    for _ in range(12):
        town.driver()
    dice = random.Random(3)

    def ride(number: int) -> Decision:
        request = town.request(riders[number % 12], fare_cents=1_000)
        if number % 2:
            decision = pool.call(lambda c: booking.book(c, request))
        else:
            decision = batcher.bookings.call(request)
        if decision.ride_id is not None:
            batcher.starts.call(decision.ride_id)
            assert batcher.completions.call((decision.ride_id, 50)) is RideStatus.COMPLETED
        return decision

    with (
        proxied(town.store) as (proxy, store),
        RetryPool(store, size=4) as pool,
        Batcher(pool) as batcher,
    ):
        proxy.decide = lambda: dice.choice(list(Loss)) if dice.random() < 0.1 else None
        with ThreadPoolExecutor(12) as clients:
            decisions = list(clients.map(ride, range(180)))
        proxy.decide = lambda: None
        assert len(proxy.lost) > 20
    assigned = [decision.ride_id for decision in decisions if decision.outcome == Outcome.ASSIGNED]
    assert len(assigned) > 100
    assert town.ask("SELECT count(*) FROM requests") == [(180,)]
    assert town.ask("SELECT array_agg(ride_id ORDER BY ride_id) FROM rides") == [(sorted(assigned),)]
    paid = town.ask("SELECT kind, sum(amount_cents) FROM ledger WHERE ride_id IS NOT NULL GROUP BY 1")
    rides = len(assigned)
    assert dict(paid) == {"pay": 800 * rides, "commission": 200 * rides, "tip": 50 * rides}
    assert_audit_passes(town.store)
