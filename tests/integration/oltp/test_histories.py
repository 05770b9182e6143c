"""Checks of histories that concurrent clients observe, as in Jepsen: bank, set, list-append, register."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import pytest
from concurrency import assert_audit_passes
from factories import QUAD, STADIUM, Town
from psycopg import Connection, IsolationLevel
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from serial_order import Anomaly, Committed, anomalies

from oltp import booking, lifecycle
from oltp.batching import Batcher
from oltp.pool import RetryPool
from oltp.retry import RetryCounts, RetryPolicy, retry
from oltp.store import Store, transaction
from ridelake.ride import Outcome, RideStatus, new_request_id

LISTS = b"SELECT coalesce(array_agg(ride_id ORDER BY assigned_at), '{}') FROM rides WHERE driver_id = %s"
PICKUP_ZONES = (1001, QUAD, 1003, STADIUM)


@pytest.fixture(autouse=True)
def the_audit_passes_after_every_test(town: Town):
    yield
    assert_audit_passes(town.store)


@dataclass(frozen=True, slots=True)
class ObservedRide:
    """A ride as its client observed it. The driver was busy at least from `booked` to `released`."""

    driver_id: int
    ride_id: int
    booked: float
    released: float


@contextmanager
def traffic(town: Town, clients: int = 8) -> Iterator[list[ObservedRide]]:
    """Clients that book rides during the block, half of them through the batcher. Some rides have tips,
    cancellations and refunds. Yields the growing list of acknowledged rides."""
    over = threading.Event()
    taken: list[ObservedRide] = []
    failures: list[BaseException] = []

    def client(number: int, rider: int) -> None:
        dice = random.Random(number)
        try:
            while not over.is_set():
                request = town.request(rider, dice.choice(PICKUP_ZONES), dice.choice((400, 1_999)))
                if number % 2:
                    decision = pool.call(partial(booking.book, request=request))
                else:
                    decision = batcher.bookings.call(request)
                if decision.ride_id is None:
                    pool.call(
                        partial(
                            lifecycle.top_up, rider_id=rider, amount_cents=5_000, top_up_id=new_request_id()
                        )
                    )
                    continue
                booked = time.monotonic()
                known.append(decision.ride_id)
                complete_or_cancel(dice, decision.ride_id, decision.driver_id or 0, booked)
        except BaseException as error:
            failures.append(error)

    def complete_or_cancel(dice: random.Random, ride: int, driver: int, booked: float) -> None:
        released = time.monotonic()
        if dice.random() < 0.2:
            batcher.cancellations.call(ride)
        else:
            batcher.starts.call(ride)
            released = time.monotonic()
            pool.call(partial(lifecycle.complete, ride_id=ride, tip_cents=dice.choice((0, 99))))
            if dice.random() < 0.2:
                pool.call(partial(lifecycle.refund, ride_id=ride))
        taken.append(ObservedRide(driver, ride, booked, released))

    known: list[int] = []
    for zone in PICKUP_ZONES:
        town.driver(zone), town.driver(zone)
    riders = [town.rider(5_000) for _ in range(clients)]
    with RetryPool(town.store, size=4) as pool, Batcher(pool) as batcher:
        threads = [threading.Thread(target=client, args=pair) for pair in enumerate(riders)]
        for thread in threads:
            thread.start()
        try:
            yield taken
        finally:
            over.set()
            for thread in threads:
                thread.join(60)
    assert failures == []
    assert len(taken) > 50


def test_the_balances_add_up_in_every_snapshot(town: Town, connection: Connection):
    reads = 0
    with traffic(town):
        until = time.monotonic() + 2
        while time.monotonic() < until:
            with transaction(connection, IsolationLevel.REPEATABLE_READ, read_only=True):
                [(kept, least_free)] = connection.execute(
                    "SELECT sum(balance_cents), min(balance_cents - held_cents) FROM accounts"
                ).fetchall()
                time.sleep(0.002)  # meanwhile others commit
                [(platform,)] = connection.execute(
                    "SELECT sum(amount_cents) FROM entries WHERE account_id IN (1, 2)"
                ).fetchall()
            assert kept + platform == 0
            assert least_free >= 0
            reads += 1
    assert reads > 50


def test_a_ride_that_was_acknowledged_is_in_every_later_read(town: Town, connection: Connection):
    sizes: list[int] = []
    with traffic(town) as taken:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            acknowledged = {one.ride_id for one in list(taken)}
            read = {ride for (ride,) in connection.execute("SELECT ride_id FROM rides").fetchall()}
            assert acknowledged <= read
            sizes.append(len(acknowledged))
    assert sizes[-1] > sizes[0]


def test_a_driver_belongs_to_one_client_at_a_time(town: Town):
    with traffic(town) as taken:
        time.sleep(2)
    assert len({one.ride_id for one in taken}) == len(taken)
    by_driver: dict[int, list[ObservedRide]] = {}
    for one in sorted(taken, key=lambda one: one.booked):
        by_driver.setdefault(one.driver_id, []).append(one)
    assert len(by_driver) == 8
    for theirs in by_driver.values():
        for one, next_one in pairwise(theirs):
            assert one.released <= next_one.booked


def random_transaction(town: Town, drivers: list[int], rider: int, dice: random.Random) -> Callable:
    """Read the rides of some drivers, add rides to some of them, and read again."""
    steps = [dice.choice(("read", "append")) for _ in range(dice.randrange(2, 5))]

    def operation(connection: Connection) -> Committed:
        done = Committed()
        with transaction(connection, IsolationLevel.SERIALIZABLE):
            for step in steps:
                if step == "read":
                    driver = dice.choice(drivers)
                    [(seen,)] = connection.execute(LISTS, (driver,)).fetchall()
                    own = {element for _, element in done.appends}
                    done.reads.append((driver, tuple(ride for ride in seen if ride not in own)))
                else:
                    decision = booking.book(connection, town.request(rider, dice.choice(PICKUP_ZONES), 100))
                    if decision.ride_id is not None and decision.driver_id is not None:
                        lifecycle.start(connection, decision.ride_id)
                        lifecycle.complete(connection, decision.ride_id)
                        done.appends.append((decision.driver_id, decision.ride_id))
        return done

    return operation


@pytest.mark.slow
def test_serializable_transactions_have_a_serial_order(town: Town):
    drivers = [town.driver(zone) for zone in PICKUP_ZONES]
    riders = [town.rider(10**6) for _ in range(4)]
    retries = RetryCounts()
    history: list[Committed] = []
    policy = RetryPolicy(seconds_max=60, tries_max=1_000, first_wait_seconds=0.001, longest_wait_seconds=0.05)

    def client(number: int) -> None:
        dice = random.Random(number)
        with town.store.connect() as connection:
            until = time.monotonic() + 4
            while time.monotonic() < until:
                operation = random_transaction(town, drivers, riders[number], dice)
                history.append(retry(partial(operation, connection), policy, retries))

    with ThreadPoolExecutor(len(riders)) as pool:
        list(pool.map(client, range(len(riders))))
    last = Committed()
    for driver in drivers:
        [(rides,)] = town.ask(LISTS.decode(), driver)
        last.reads.append((driver, tuple(rides)))
    appends = sum(len(done.appends) for done in history)
    assert sum(len(seen) for _, seen in last.reads) == appends > 20
    assert sum(len(done.reads) for done in history) > 20
    assert anomalies([*history, last]) == []


@pytest.mark.parametrize(
    ("isolation", "names"),
    [
        (IsolationLevel.READ_COMMITTED, ["G-single"]),
        (IsolationLevel.REPEATABLE_READ, []),
        (IsolationLevel.SERIALIZABLE, []),
    ],
)
def test_two_reads_use_two_snapshots_at_read_committed_and_one_above(
    town: Town, connection: Connection, isolation: IsolationLevel, names: list[str]
):
    """This is the definition of READ COMMITTED. Therefore the audit uses REPEATABLE READ."""
    one, other = town.driver(QUAD), town.driver(STADIUM)
    requests = [town.request(town.rider(), zone) for zone in (QUAD, STADIUM)]
    reader, writer = Committed(), Committed()
    with town.store.connect() as reading, transaction(reading, isolation):
        for driver in (one, other):
            [(seen,)] = reading.execute(LISTS, (driver,)).fetchall()
            reader.reads.append((driver, tuple(seen)))
            if not writer.appends:
                decisions = booking.book_many(connection, requests)
                writer.appends += [(decision.driver_id or 0, decision.ride_id or 0) for decision in decisions]
    last = Committed(reads=[(driver, (ride,)) for driver, ride in writer.appends])
    assert [anomaly.name for anomaly in anomalies([reader, writer, last])] == names


KNOWN = {
    "G0": [
        Committed([(1, 1), (2, 2)]),
        Committed([(1, 2), (2, 1)]),
        Committed([], [(1, (1, 2)), (2, (1, 2))]),
    ],
    "G1c": [Committed([(1, 1)], [(2, (2,))]), Committed([(2, 2)], [(1, (1,))])],
    "G-single": [
        Committed([], [(1, ()), (2, (2,))]),
        Committed([(1, 1), (2, 2)]),
        Committed([], [(1, (1,))]),
    ],
    "G2": [
        Committed([(1, 1)], [(2, ())]),
        Committed([(2, 2)], [(1, ())]),
        Committed([], [(1, (1,)), (2, (2,))]),
    ],
    "G1a: read of an element that was never committed": [Committed([], [(1, (9,))])],
    "incompatible order": [Committed([(1, 1), (1, 2)], [(1, (1, 2))]), Committed([], [(1, (2,))])],
}


def test_the_checker_names_each_anomaly_and_accepts_a_serial_history():
    for name, history in KNOWN.items():
        assert name in [anomaly.name for anomaly in anomalies(history)]
    serial = [
        Committed([(1, 1)]),
        Committed([(1, 2), (2, 3)], [(1, (1,))]),
        Committed([], [(1, (1, 2)), (2, (3,))]),
    ]
    assert anomalies(serial) == []
    assert isinstance(anomalies(KNOWN["G2"])[0], Anomaly)


def at_isolation(store: Store, level: str) -> Store:
    options = conninfo_to_dict(store.conninfo)["options"]
    escaped = level.replace(" ", "\\ ")
    conninfo = make_conninfo(store.conninfo, options=f"{options} -c default_transaction_isolation={escaped}")
    return Store(conninfo, store.server_version)


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_no_driver_and_no_amount_is_used_twice_at_any_level(town: Town, level: str):
    """Single calls and batches at the same time; more requests than drivers; every request is sent twice."""
    drivers = {town.driver(zone) for zone in PICKUP_ZONES for _ in range(3)}
    requests = [town.request(town.rider(), PICKUP_ZONES[number % 4]) for number in range(32)]
    with RetryPool(at_isolation(town.store, level), size=8) as pool:
        assert pool.call(lambda c: c.execute("SHOW transaction_isolation").fetchone()) == (level,)
        with ThreadPoolExecutor(8) as clients, Batcher(pool) as batcher:
            calls = [
                clients.submit(pool.call, partial(booking.book, request=request)) for request in requests
            ]
            calls += [clients.submit(batcher.bookings.call, request) for request in reversed(requests)]
            decisions = [call.result(60) for call in calls]
    assert decisions[:32] == decisions[:31:-1]
    taken = [decision.driver_id for decision in decisions[:32] if decision.outcome == Outcome.ASSIGNED]
    assert len(taken) == len(set(taken))
    assert set(taken) <= drivers
    assert len(taken) > 8  # a claim that fails does not try the skipped drivers again
    assert town.ask("SELECT sum(held_cents) FROM accounts") == [(2_000 * len(taken),)]
    assert {one.outcome for one in decisions} <= {Outcome.ASSIGNED, Outcome.NO_DRIVER_AVAILABLE}


@pytest.mark.slow
def test_a_thousand_pairs_in_opposite_orders_do_not_deadlock(town: Town):
    riders = [town.rider(10**7) for _ in range(6)]
    for _ in range(12):
        town.driver()
    barrier = threading.Barrier(2)

    def work(side: int) -> Counter[str]:
        order = slice(None, None, -1 if side else 1)
        seen: Counter[str] = Counter()
        with town.store.connect() as connection:
            for _ in range(250):
                barrier.wait(30)
                requests = [town.request(rider, fare_cents=100) for rider in riders[order]]
                seen.update(decision.outcome for decision in booking.book_many(connection, requests))
                barrier.wait(30)
                [(rides,)] = connection.execute(
                    "SELECT array_agg(ride_id ORDER BY ride_id) FROM rides WHERE status = 'assigned'"
                ).fetchall()
                barrier.wait(30)
                lifecycle.start_many(connection, rides[order])
                for rider in riders[order]:
                    lifecycle.top_up(connection, rider, 10)
                barrier.wait(30)
                tipped = [(ride, 5) for ride in rides[order]]
                seen.update(str(stands) for stands in lifecycle.complete_many(connection, tipped))
        return seen

    with ThreadPoolExecutor(2) as pool:
        seen = sum(pool.map(work, range(2)), Counter[str]())
    assert seen[Outcome.ASSIGNED] == 250 * 6
    assert seen[RideStatus.COMPLETED] == 2 * 250 * 6
    with town.store.connect() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert connection.execute(deadlocks).fetchone() == (0,)
