"""Guarantee O5: an acknowledged ride survives SIGKILL of the whole server. A request without an answer is
resolved by sending it again with the same id.

These tests cannot detect a missing fsync. The kernel keeps the writes of a killed process; only a power
failure loses them.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from concurrency import assert_audit_passes
from factories import Town
from private_server import PrivateServer, private_server
from psycopg import Connection

from oltp import booking, lifecycle
from oltp.batching import Batcher
from oltp.pool import RetryPool
from ridelake.errors import CannotConnect
from ridelake.ride import Decision, Outcome, RideRequest, RideStatus

WRITERS = 8
CRASHES = int(os.environ.get("RIDELAKE_TEST_CRASHES", "25"))  # in the longest test


@dataclass(slots=True)
class Writer:
    """Books, starts and completes rides, and records the acknowledged calls."""

    town: Town
    rider: int
    book: Callable[[RideRequest], Decision]
    complete: Callable[[int], RideStatus | None]
    acknowledged: list[tuple[RideRequest, Decision]] = field(default_factory=list)
    completed: list[int] = field(default_factory=list)
    in_doubt: list[RideRequest] = field(default_factory=list)
    to_complete: int | None = None  # a ride whose completion is not acknowledged yet
    doubts: int = 0

    def ride(self) -> None:
        if self.to_complete is None:
            request = self.in_doubt[-1] if self.in_doubt else self.town.request(self.rider, fare_cents=100)
            self.in_doubt = [request]
            decision = self.book(request)
            self.acknowledged.append((request, decision))
            self.in_doubt = []
            self.to_complete = decision.ride_id
        if self.to_complete is not None and self.complete(self.to_complete) is RideStatus.COMPLETED:
            self.completed.append(self.to_complete)
            self.to_complete = None


class SingleClient:
    """A client with its own connection and without retries."""

    def __init__(self, server: PrivateServer) -> None:
        self._server = server
        self._connection: Connection | None = None

    def book(self, request: RideRequest) -> Decision:
        return booking.book(self._connected(), request)

    def complete(self, ride: int) -> RideStatus | None:
        return start_and_complete(self._connected(), ride)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._server.store.connect()
        return self._connection


def start_and_complete(connection: Connection, ride: int) -> RideStatus | None:
    lifecycle.start(connection, ride)
    return lifecycle.complete(connection, ride, 10)


def writers(
    server: PrivateServer, pool: RetryPool, batcher: Batcher, alone: tuple[SingleClient, ...]
) -> list[Writer]:
    """Writers without retries, with the pool, and with the batcher."""
    town = Town(server.store)

    def complete_in_batches(ride: int) -> RideStatus | None:
        batcher.starts.call(ride)
        return batcher.completions.call((ride, 10))

    found: list[Writer] = []
    for number in range(WRITERS):
        rider = town.rider(10**9)
        for _ in range(4):  # more drivers than writers, because concurrent claims can miss a driver
            town.driver()
        if number < len(alone):
            found.append(Writer(town, rider, alone[number].book, alone[number].complete))
        elif number < 5:
            found.append(
                Writer(
                    town,
                    rider,
                    lambda request: pool.call(lambda connection: booking.book(connection, request)),
                    lambda ride: pool.call(lambda connection: start_and_complete(connection, ride)),
                )
            )
        else:
            found.append(Writer(town, rider, batcher.bookings.call, complete_in_batches))
    return found


@contextmanager
def under_load(clients: list[Writer]) -> Iterator[None]:
    """Run the writers during the block. Errors other than lost connections are raised at its end."""
    over = threading.Event()
    failures: list[Exception] = []

    def work(writer: Writer) -> None:
        try:
            while not over.is_set():
                try:
                    writer.ride()
                except (psycopg.OperationalError, CannotConnect):
                    writer.doubts += 1
                    time.sleep(0.02)  # without an answer: the next call sends the same id
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert failures == []


def settle(server: PrivateServer, clients: list[Writer]) -> None:
    """Send the requests without an answer again."""
    with server.store.connect() as connection:
        for writer in clients:
            for request in writer.in_doubt:
                writer.acknowledged.append((request, booking.book(connection, request)))
                writer.to_complete = writer.acknowledged[-1][1].ride_id
            writer.in_doubt = []


def assert_nothing_is_lost(server: PrivateServer, clients: list[Writer]) -> None:
    acknowledged = {
        request.request_id: decision for writer in clients for request, decision in writer.acknowledged
    }
    assert {decision.outcome for decision in acknowledged.values()} == {Outcome.ASSIGNED}
    with server.store.connect() as connection:
        kept = connection.execute(
            "SELECT request_id, outcome, requests.ride_id, requests.driver_id"
            " FROM requests LEFT JOIN rides USING (ride_id, driver_id, request_id)"
        ).fetchall()
        done = connection.execute("SELECT ride_id FROM rides WHERE status = 'completed'").fetchall()
    assert len(kept) == len(acknowledged)  # each id is decided once, and there are no other requests
    assert {row[0]: Decision(row[0], Outcome(row[1]), row[2], row[3]) for row in kept} == acknowledged
    acknowledged_ends = {ride for writer in clients for ride in writer.completed}
    assert acknowledged_ends <= {ride for (ride,) in done}
    assert_audit_passes(server.store)


def crash_repeatedly(rounds: int, seed: int) -> list[str]:
    """Kill the server under load, restart it and check the store. Returns one line per round."""
    dice = random.Random(seed)
    lines: list[str] = []
    with ExitStack() as stack:
        server = stack.enter_context(private_server())
        pool = stack.enter_context(RetryPool(server.store, size=6))
        batcher = stack.enter_context(Batcher(pool))
        alone = tuple(stack.enter_context(closing(SingleClient(server))) for _ in range(2))
        clients = writers(server, pool, batcher, alone)
        for number in range(1, rounds + 1):
            before = sum(len(writer.acknowledged) for writer in clients)
            with under_load(clients):
                time.sleep(dice.uniform(0.1, 0.7))
                server.kill()
                seconds = server.start()
                time.sleep(0.1)
            settle(server, clients)
            assert_nothing_is_lost(server, clients)
            booked = sum(len(writer.acknowledged) for writer in clients) - before
            assert booked > 0
            counted = f"{booked} rides acknowledged, 0 lost"
            lines.append(f"crash {number}: back in {seconds:.2f} s, {counted}")
        doubts = sum(writer.doubts for writer in clients)
        lines.append(f"{pool.retries.total} calls were sent again by the pool, {doubts} tries by hand")
        assert pool.retries.total > 0
    return lines


@pytest.mark.slow
def test_every_acknowledged_ride_survives_three_crashes(
    capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
):
    lines = crash_repeatedly(rounds=3, seed=11)
    record_property("crashes", lines)
    with capsys.disabled():
        print("", *lines, sep="\n  ")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_acknowledged_ride_survives_many_crashes(capsys: pytest.CaptureFixture[str]):
    lines = crash_repeatedly(rounds=CRASHES, seed=random.randrange(10**6))
    with capsys.disabled():
        print("", *lines, sep="\n  ")
