"""Compares the store with a model in memory. Hypothesis generates programs. The model predicts the result of
each step and all balances. The audit runs after each step."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

import pytest
from concurrency import TABLES
from factories import QUAD, SOMA, STADIUM, Town
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg import Connection

from oltp import booking, lifecycle
from oltp.audit import audit
from ridelake.ride import (
    CancelReason,
    Decision,
    DriverStatus,
    Outcome,
    PaymentStatus,
    RideRequest,
    RideStatus,
    new_request_id,
)

RIDE_MACHINE_SECONDS = int(os.environ.get("RIDELAKE_TEST_SECONDS", "180"))  # of the slow test
ZONES = (QUAD, STADIUM, SOMA)
NOWHERE = 9
NO_SHOW_CENTS = 500
ANY = st.integers(0, 50)  # an index of an existing object, modulo their number
CENTS = st.sampled_from([1, 4, 499, 500, 501, 1_999, 2_000])
AHEAD = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Person:
    """A rider or a driver: the account, and the zone of a driver."""

    balance_cents: int = 0
    held_cents: int = 0
    zone_id: int = NOWHERE
    status: DriverStatus | None = None


@dataclass(slots=True)
class Ride:
    rider_id: int
    driver_id: int
    fare_cents: int
    status: RideStatus = RideStatus.ASSIGNED
    reason: CancelReason | None = None
    payment: PaymentStatus = PaymentStatus.HELD
    captured_cents: int = 0
    tip_cents: int = 0

    @property
    def active(self) -> bool:
        return self.status in (RideStatus.ASSIGNED, RideStatus.STARTED)


@dataclass(slots=True)
class Model:
    """The expected state of the store."""

    riders: dict[int, Person] = field(default_factory=dict)
    drivers: dict[int, Person] = field(default_factory=dict)
    rides: dict[int, Ride] = field(default_factory=dict)
    decided: dict[UUID, tuple[RideRequest, Decision]] = field(default_factory=dict)
    paid_in: dict[UUID, tuple[int, int, int | None]] = field(default_factory=dict)
    revenue_cents: int = 0

    def judge(self, request: RideRequest) -> Outcome | Decision | None:
        """The result of a request, or None if it depends on the drivers."""
        if request.request_id in self.decided:
            earlier, decision = self.decided[request.request_id]
            return decision if earlier == request else Outcome.REQUEST_MISMATCH
        if request.rider_id not in self.riders:
            return Outcome.UNKNOWN_RIDER
        zones = (request.pickup_zone_id, request.dropoff_zone_id)
        if NOWHERE in zones or zones[0] // 1000 != zones[1] // 1000:
            return Outcome.UNKNOWN_ZONE
        if any(ride.active and ride.rider_id == request.rider_id for ride in self.rides.values()):
            return Outcome.RIDER_BUSY
        rider = self.riders[request.rider_id]
        if rider.balance_cents - rider.held_cents < request.fare_cents:
            return Outcome.PAYMENT_DECLINED
        return None

    def available(self, place: int) -> set[int]:
        """The available drivers in a zone or a city."""
        return {
            driver_id
            for driver_id, driver in self.drivers.items()
            if driver.status is DriverStatus.AVAILABLE and place in (driver.zone_id, driver.zone_id // 1000)
        }

    def record(self, request: RideRequest, decision: Decision) -> None:
        self.decided[request.request_id] = request, decision
        if decision.ride_id is not None and decision.driver_id is not None:
            self.rides[decision.ride_id] = Ride(request.rider_id, decision.driver_id, request.fare_cents)
            self.riders[request.rider_id].held_cents += request.fare_cents
            self.drivers[decision.driver_id].status = DriverStatus.BUSY

    def complete(self, ride: Ride, tip_cents: int) -> None:
        rider, driver = self.riders[ride.rider_id], self.drivers[ride.driver_id]
        rider.held_cents -= ride.fare_cents
        rider.balance_cents -= ride.fare_cents
        if tip_cents > rider.balance_cents - rider.held_cents:
            tip_cents = 0
        rider.balance_cents -= tip_cents
        driver.balance_cents += ride.fare_cents - ride.fare_cents // 5 + tip_cents
        self.revenue_cents += ride.fare_cents // 5
        driver.status = DriverStatus.AVAILABLE
        ride.status, ride.payment = RideStatus.COMPLETED, PaymentStatus.CAPTURED
        ride.captured_cents, ride.tip_cents = ride.fare_cents, tip_cents

    def cancel(self, ride: Ride, reason: CancelReason) -> None:
        rider, driver = self.riders[ride.rider_id], self.drivers[ride.driver_id]
        fee_cents = min(ride.fare_cents, NO_SHOW_CENTS) if reason is CancelReason.NO_SHOW else 0
        rider.held_cents -= ride.fare_cents
        rider.balance_cents -= fee_cents
        driver.balance_cents += fee_cents
        driver.status = DriverStatus.AVAILABLE
        ride.status, ride.reason, ride.captured_cents = RideStatus.CANCELLED, reason, fee_cents
        ride.payment = PaymentStatus.CAPTURED if fee_cents else PaymentStatus.VOIDED

    def refund(self, ride: Ride) -> None:
        self.riders[ride.rider_id].balance_cents += ride.captured_cents
        self.revenue_cents -= ride.captured_cents
        ride.payment = PaymentStatus.REFUNDED


class RideMachine(RuleBasedStateMachine):
    """Every rule is one call of the store, with a predicted result."""

    town: Town
    connection: Connection
    names = count()

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.connection.execute(f"TRUNCATE {', '.join(TABLES)}".encode())
        self.connection.execute(
            "INSERT INTO accounts (account_id, kind) VALUES (1, 'outside'), (2, 'revenue')"
        )

    @initialize()
    def open_the_town(self) -> None:
        for zone in (QUAD, STADIUM):
            self.a_driver_joins(zone)
        for _ in range(2):
            self.a_rider_joins(10_000)

    @rule(cents=st.sampled_from([0, 1_000, 10_000]))
    def a_rider_joins(self, cents: int) -> None:
        self.model.riders[self.town.rider(cents)] = Person(cents)

    @rule(zone=st.sampled_from(ZONES))
    def a_driver_joins(self, zone: int) -> None:
        driver = self.town.driver(zone)
        self.model.drivers[driver] = Person(zone_id=zone, status=DriverStatus.AVAILABLE)

    @rule(which=ANY, cents=CENTS, with_id=st.booleans())
    def top_up(self, which: int, cents: int, with_id: bool) -> None:
        rider = pick(self.model.riders, which)
        top_up_id = new_request_id() if with_id else None
        transfer = lifecycle.top_up(self.connection, rider, cents, top_up_id)
        assert transfer is not None
        self.model.riders[rider].balance_cents += cents
        if top_up_id is not None:
            self.model.paid_in[top_up_id] = rider, cents, transfer

    @rule(which=ANY, other_cents=st.booleans(), other_rider=ANY)
    def top_up_again(self, which: int, other_cents: bool, other_rider: int) -> None:
        if not self.model.paid_in:
            return
        top_up_id = pick(self.model.paid_in, which)
        rider, cents, transfer = self.model.paid_in[top_up_id]
        sender = rider if other_rider % 2 else pick(self.model.riders, other_rider)
        answer = lifecycle.top_up(self.connection, sender, cents + other_cents, top_up_id)
        assert answer == (transfer if sender == rider and not other_cents else None)

    @rule(which=ANY, cents=CENTS, pickup=st.sampled_from((*ZONES, *ZONES, NOWHERE)), there=st.booleans())
    def request(self, which: int, cents: int, pickup: int, there: bool) -> None:
        rider = pick(self.model.riders, which) if which < 48 else 10**9
        request = RideRequest(new_request_id(), rider, pickup, pickup if there else QUAD, 1_500, cents)
        self.check_one(request, booking.book(self.connection, request))

    @rule(
        which=ANY,
        change=st.sampled_from([{}, {}, {"fare_cents": 3}, {"distance_metres": 3}, {"rider_id": 7}]),
    )
    def request_again(self, which: int, change: dict[str, int]) -> None:
        if self.model.decided:
            request = replace(self.model.decided[pick(self.model.decided, which)][0], **change)
            self.check_one(request, booking.book(self.connection, request))

    def check_one(self, request: RideRequest, decision: Decision) -> None:
        expected = self.model.judge(request)
        if expected is None:
            candidates = self.model.available(request.pickup_zone_id)
            candidates = candidates or self.model.available(request.pickup_zone_id // 1000)
            expected = Outcome.ASSIGNED if candidates else Outcome.NO_DRIVER_AVAILABLE
            assert decision.driver_id in (candidates or {None})
        if isinstance(expected, Decision):
            assert decision == expected
        else:
            assert decision.outcome is expected
            if expected is not Outcome.REQUEST_MISMATCH:
                self.model.record(request, decision)

    @rule(
        asked=st.lists(
            st.tuples(ANY, CENTS, st.sampled_from(ZONES), st.integers(-6, 6)), min_size=1, max_size=6
        )
    )
    def request_many(self, asked: list[tuple[int, int, int, int]]) -> None:
        """A batch that repeats some earlier requests, and some of its own. Some of these are changed."""
        batch: list[RideRequest] = []
        for which, cents, zone, again in asked:
            earlier = [*batch, *(request for request, _ in self.model.decided.values())]
            if again > 0 and earlier:
                request = earlier[which % len(earlier)]
                batch.append(replace(request, fare_cents=cents) if again > 4 else request)
            else:
                rider = pick(self.model.riders, which)
                batch.append(RideRequest(new_request_id(), rider, zone, zone, 1_500, cents))
        decisions = booking.book_many(self.connection, batch)
        assert [decision.request_id for decision in decisions] == [request.request_id for request in batch]
        turns: dict[int, int] = {}
        rounds: dict[int, list[tuple[RideRequest, Decision]]] = {}
        for request, decision in zip(batch, decisions, strict=True):
            turns[request.rider_id] = turns.get(request.rider_id, 0) + 1
            rounds.setdefault(turns[request.rider_id], []).append((request, decision))
        for turn in sorted(rounds):
            self.check_round(rounds[turn])

    def check_round(self, decided: list[tuple[RideRequest, Decision]]) -> None:
        """Check decisions, one per rider. Drivers in the zone come first, then others in the city."""
        judged = [(request, decision, self.model.judge(request)) for request, decision in decided]
        free = {zone: self.model.available(zone) for zone in ZONES}
        asking = [(request, decision) for request, decision, known in judged if known is None]
        left: list[tuple[RideRequest, Decision]] = []
        served: dict[int, int] = dict.fromkeys(ZONES, 0)
        for request, decision in asking:
            zone = request.pickup_zone_id
            if served[zone] < len(free[zone]):
                served[zone] += 1
                assert decision.driver_id in free[zone]
            else:
                left.append((request, decision))
        for city in (1, 2):
            here = [decision for request, decision in left if request.pickup_zone_id // 1000 == city]
            idle = sum(len(free[zone]) - served[zone] for zone in ZONES if zone // 1000 == city)
            assert [decision.outcome for decision in here] == [Outcome.ASSIGNED] * min(idle, len(here)) + [
                Outcome.NO_DRIVER_AVAILABLE
            ] * max(len(here) - idle, 0)
        for request, decision, known in judged:
            if isinstance(known, Decision):
                assert decision == known
            elif known is not None:
                assert decision.outcome is known
            if not isinstance(known, Decision) and known is not Outcome.REQUEST_MISMATCH:
                self.model.record(request, decision)

    @rule(which=ANY)
    def start(self, which: int) -> None:
        self.move(
            which, RideStatus.ASSIGNED, self.start_it, lambda ride: lifecycle.start(self.connection, ride)
        )

    @staticmethod
    def start_it(ride: Ride) -> None:
        ride.status = RideStatus.STARTED

    @rule(which=ANY, tip=st.sampled_from([0, 100, 10_000]))
    def complete(self, which: int, tip: int) -> None:
        self.move(
            which,
            RideStatus.STARTED,
            lambda ride: self.model.complete(ride, tip),
            lambda ride: lifecycle.complete(self.connection, ride, tip),
        )

    @rule(which=ANY, reason=st.sampled_from(CancelReason))
    def cancel(self, which: int, reason: CancelReason) -> None:
        self.move(
            which,
            RideStatus.ASSIGNED,
            lambda ride: self.model.cancel(ride, reason),
            lambda ride: lifecycle.cancel(self.connection, ride, reason),
        )

    def move(
        self,
        which: int,
        legal_from: RideStatus,
        predict: Callable[[Ride], None],
        operation: Callable[[int], RideStatus | None],
    ) -> None:
        """Change one of the newest rides, because older ones have a final status."""
        if not self.model.rides or which == 50:
            assert operation(10**9) is None
            return
        ride_id = pick(dict(reversed(self.model.rides.items())), which % 8)
        ride = self.model.rides[ride_id]
        if ride.status is legal_from:
            predict(ride)
        assert operation(ride_id) is ride.status

    @rule(which=ANY)
    def refund(self, which: int) -> None:
        if not self.model.rides:
            assert lifecycle.refund(self.connection, 10**9) is None
            return
        ride_id = pick(dict(reversed(self.model.rides.items())), which % 8)
        ride = self.model.rides[ride_id]
        if ride.payment is PaymentStatus.CAPTURED:
            self.model.refund(ride)
        assert lifecycle.refund(self.connection, ride_id) is ride.payment

    @rule(which=ANY, zone=st.sampled_from((*ZONES, NOWHERE)))
    def driver_online(self, which: int, zone: int) -> None:
        driver_id = pick(self.model.drivers, which)
        driver = self.model.drivers[driver_id]
        if driver.status is DriverStatus.OFFLINE and zone != NOWHERE:
            driver.status, driver.zone_id = DriverStatus.AVAILABLE, zone
        expected = None if zone == NOWHERE else driver.status
        assert lifecycle.driver_online(self.connection, driver_id, zone) is expected

    @rule(which=ANY)
    def driver_offline(self, which: int) -> None:
        driver_id = pick(self.model.drivers, which)
        driver = self.model.drivers[driver_id]
        if driver.status is DriverStatus.AVAILABLE:
            driver.status = DriverStatus.OFFLINE
        assert lifecycle.driver_offline(self.connection, driver_id) is driver.status

    @rule(assigned=st.booleans(), started=st.booleans())
    def expire(self, assigned: bool, started: bool) -> None:
        waiting = [
            ride for ride in self.model.rides.values() if ride.status is RideStatus.ASSIGNED and assigned
        ]
        riding = [ride for ride in self.model.rides.values() if ride.status is RideStatus.STARTED and started]
        for ride in waiting:
            self.model.cancel(ride, CancelReason.EXPIRED)
        for ride in riding:
            self.model.complete(ride, 0)
        limits = [AHEAD if so else LONG_AGO for so in (assigned, started)]
        assert lifecycle.expire(self.connection, limits[0], limits[1]) == (len(waiting), len(riding))

    @invariant()
    def balances_equal_the_model(self) -> None:
        ask = self.connection.execute
        riders = ask(
            "SELECT rider_id, balance_cents, held_cents FROM riders JOIN accounts USING (account_id)"
        )
        assert {row[0]: row[1:] for row in riders} == {
            rider_id: (rider.balance_cents, rider.held_cents) for rider_id, rider in self.model.riders.items()
        }
        drivers = ask(
            "SELECT driver_id, balance_cents, zone_id, status FROM drivers JOIN accounts USING (account_id)"
        )
        assert {row[0]: row[1:] for row in drivers} == {
            driver_id: (driver.balance_cents, driver.zone_id, driver.status)
            for driver_id, driver in self.model.drivers.items()
        }
        revenue = ask("SELECT coalesce(sum(amount_cents), 0) FROM entries WHERE account_id = 2").fetchone()
        assert revenue == (self.model.revenue_cents,)

    @invariant()
    def rides_and_payments_equal_the_model(self) -> None:
        found = self.connection.execute(
            "SELECT ride_id, rider_id, driver_id, fare_cents, rides.status, cancel_reason, payments.status,"
            " captured_cents, tip_cents FROM rides JOIN payments USING (ride_id)"
        )
        assert {row[0]: row[1:] for row in found} == {
            ride_id: (
                *(ride.rider_id, ride.driver_id, ride.fare_cents, ride.status, ride.reason, ride.payment),
                *(ride.captured_cents, ride.tip_cents),
            )
            for ride_id, ride in self.model.rides.items()
        }

    @invariant()
    def the_audit_passes(self) -> None:
        report = audit(self.connection)
        assert report.passed, report.verdict


def pick(among: dict, which: int):
    return list(among)[which % len(among)]


def run(town: Town, connection: Connection, programs: int, steps: int, derandomize: bool) -> None:
    # These tests need no durability. A flush for each step would take half of the time.
    connection.execute("SET synchronous_commit = off")
    machine = type("RideMachine", (RideMachine,), {"town": town, "connection": connection})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=programs,
            stateful_step_count=steps,
            derandomize=derandomize,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_store_equals_the_model_after_random_programs(town: Town, connection: Connection):
    run(town, connection, programs=10, steps=40, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(RIDE_MACHINE_SECONDS + 1800)  # a long timeout, so that it starts early; see conftest.py
def test_the_store_equals_the_model_for_minutes_of_random_programs(town: Town, connection: Connection):
    until = time.monotonic() + RIDE_MACHINE_SECONDS
    while time.monotonic() < until:
        run(town, connection, programs=5, steps=60, derandomize=False)
