"""Retries: which errors are retried, for how long, and which results are not an acknowledgement."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import psycopg
import pytest
from concurrency import assert_audit_passes, everything
from factories import Town
from private_server import PrivateServer, private_server
from psycopg import Connection
from psycopg_pool import PoolClosed, PoolTimeout
from statement_faults import raise_at_commit

from oltp import booking, lifecycle
from oltp import retry as retry_module
from oltp.batching import Batcher
from oltp.pool import RetryPool
from oltp.retry import NO_ANSWER, RetryCounts, RetryPolicy, retry, retry_reason
from oltp.store import transaction
from ridelake.errors import CannotConnect
from ridelake.ride import Decision, Outcome, RideRequest

AGAIN = ["40001", "40P01", "57P01", "57P02", "57P03", "57P05", "08000", "08003", "08006", "08P01"]
NEVER = ["23505", "23514", "22003", "42P01", "57014", "57P04", "25P02", "53100", "P0001"]
SHORT = RetryPolicy(seconds_max=5, tries_max=6, first_wait_seconds=0.01, longest_wait_seconds=0.04)


def raising(code: str) -> Callable[[Connection], None]:
    """An operation that fails with this SQLSTATE."""

    def operation(connection: Connection) -> None:
        connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$".encode())

    return operation


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that `retry` would sleep. It does not sleep in these tests."""
    slept: list[float] = []
    monkeypatch.setattr(retry_module.time, "sleep", slept.append)
    return slept


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    with private_server() as server:
        yield server


def test_conflicts_and_lost_connections_are_retried_and_counted(town: Town):
    with RetryPool(town.store, 1, SHORT) as pool:
        for code in AGAIN:
            tries: list[int] = []

            def operation(connection: Connection, code: str = code, tries: list[int] = tries) -> str:
                tries.append(1)
                if len(tries) < 3:
                    raising(code)(connection)
                return "answer"

            assert pool.call(operation) == "answer"
            assert len(tries) == 3
        assert pool.retries.by_reason == dict.fromkeys(AGAIN, 2)
        assert pool.retries.total == 2 * len(AGAIN)


def test_permanent_errors_are_raised_immediately(town: Town):
    with RetryPool(town.store, 1, SHORT) as pool:
        for code in NEVER:
            with pytest.raises(psycopg.Error) as caught:
                pool.call(raising(code))
            assert caught.value.sqlstate == code
        with pytest.raises(ZeroDivisionError):
            pool.call(lambda connection: 1 / 0)
        with pytest.raises(psycopg.ProgrammingError):
            pool.call(lambda connection: connection.execute("SELECT %s", ()))
        assert pool.retries.by_reason == {}


def test_a_lost_connection_without_a_code_is_retried():
    assert retry_reason(psycopg.OperationalError("server closed the connection unexpectedly")) == NO_ANSWER
    assert retry_reason(PoolTimeout("no connection after 2.00 s")) == NO_ANSWER
    assert retry_reason(CannotConnect("cannot connect to Postgres")) == NO_ANSWER
    assert retry_reason(psycopg.InterfaceError("misuse")) is None
    assert retry_reason(ValueError("no")) is None


def test_a_closed_pool_is_not_retried(town: Town):
    assert retry_reason(PoolClosed("the pool is closed")) is None
    pool = RetryPool(town.store, 1)
    pool.close()
    began = time.monotonic()
    with pytest.raises(PoolClosed):
        pool.call(lambda connection: connection.execute("SELECT 1"))
    assert time.monotonic() - began < 1


def test_waits_have_full_jitter_and_a_bound_that_doubles(waits: list[float]):
    def call() -> None:
        raise psycopg.errors.SerializationFailure

    bounds = [0.01, 0.02, 0.04, 0.04, 0.04]
    drawn: list[list[float]] = []
    for _ in range(200):
        waits.clear()
        with pytest.raises(psycopg.errors.SerializationFailure):
            retry(call, SHORT, RetryCounts())
        drawn.append(list(waits))
    for bound, seen in zip(bounds, zip(*drawn, strict=True), strict=True):
        assert 0 <= min(seen) < bound / 10  # full jitter: from zero …
        assert bound * 0.9 < max(seen) <= bound  # … to the bound


def test_retries_end_by_number_and_by_time(waits: list[float], monkeypatch: pytest.MonkeyPatch):
    tries = []

    def call() -> None:
        tries.append(1)
        raise psycopg.OperationalError("server closed the connection unexpectedly\n\tThis probably means")

    retries = RetryCounts()
    with pytest.raises(CannotConnect, match="same ids") as caught:
        retry(call, SHORT, retries)
    assert "\n" not in str(caught.value)
    assert (len(tries), retries.by_reason) == (6, {NO_ANSWER: 5})
    clock = iter(range(0, 1_000, 2))
    monkeypatch.setattr(retry_module.time, "monotonic", lambda: next(clock))
    tries.clear()
    with pytest.raises(CannotConnect):
        retry(call, RetryPolicy(seconds_max=5), RetryCounts())
    assert len(tries) == 3


def test_retries_are_counted_correctly_by_many_threads():
    retries = RetryCounts()
    threads = [
        threading.Thread(target=lambda: [retries.count("40001") for _ in range(2_000)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert retries.total == 16_000


def test_a_failing_commit_is_not_an_acknowledgement(town: Town, connection: Connection):
    """The rows are sent to the client before the COMMIT fails."""
    town.driver()
    request = town.request(town.rider())
    before = everything(town)
    raise_at_commit(connection, "rides")
    with RetryPool(town.store, 1, SHORT) as pool, Batcher(pool) as batcher:
        calls: list[Callable[[], object]] = [
            lambda: booking.book(connection, request),
            lambda: booking.book_many(connection, [request]),
            lambda: pool.call(lambda pooled: booking.book(pooled, request)),
            lambda: batcher.bookings.call(request),
        ]
        for call in calls:
            with pytest.raises(psycopg.errors.RaiseException, match="too late"):
                call()
            with pytest.raises(psycopg.errors.RaiseException, match="too late"):
                call()  # the second call uses prepared statements
        with pytest.raises(psycopg.errors.RaiseException), transaction(connection):
            assert booking.book(connection, request).outcome == Outcome.ASSIGNED
        assert everything(town) == before
        assert pool.retries.total == 0


def test_a_commit_that_fails_with_a_conflict_is_retried(town: Town, connection: Connection):
    town.driver()
    request = town.request(town.rider())
    raise_at_commit(connection, "rides", sqlstate="40001")
    with RetryPool(town.store, 1) as pool:
        repair = threading.Timer(0.3, lambda: connection.execute("DROP FUNCTION refuse() CASCADE"))
        repair.start()
        assert pool.call(lambda pooled: booking.book(pooled, request)).outcome == Outcome.ASSIGNED
        repair.join()
        assert pool.retries.by_reason["40001"] > 0
    assert town.ask("SELECT count(*) FROM rides") == [(1,)]


def test_a_failed_transaction_is_never_committed_silently(town: Town, connection: Connection):
    rider = town.rider()
    before = everything(town)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction), transaction(connection):
        connection.execute("SELECT top_up(%s, 100)", (rider,))
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
    assert everything(town) == before
    with transaction(connection):  # the connection can still be used
        connection.execute("SELECT top_up(%s, 100)", (rider,))
    assert town.ask("SELECT balance_cents FROM accounts WHERE kind = 'rider'") == [(10_100,)]


@pytest.mark.slow
def test_a_pool_survives_a_restart_of_the_server_during_its_calls(server: PrivateServer):
    town = Town(server.store)
    riders = [town.rider(10**6) for _ in range(8)]
    for _ in range(8):
        town.driver()
    over = threading.Event()
    failures: list[Exception] = []
    asked: list[tuple[RideRequest, Decision]] = []

    def client(rider: int) -> None:
        try:
            while not over.is_set():
                request = town.request(rider, fare_cents=100)
                decision = pool.call(partial(booking.book, request=request))
                asked.append((request, decision))
                if decision.ride_id is not None:
                    pool.call(partial(lifecycle.cancel, ride_id=decision.ride_id))
        except Exception as error:
            failures.append(error)

    with RetryPool(server.store, size=4) as pool:
        threads = [threading.Thread(target=client, args=(rider,)) for rider in riders]
        for thread in threads:
            thread.start()

        def wait_for_more() -> None:
            before, until = len(asked), time.monotonic() + 30
            while len(asked) < before + 20 and not failures and time.monotonic() < until:
                time.sleep(0.05)
            assert len(asked) >= before + 20

        for _ in range(2):
            wait_for_more()
            server.stop()
            time.sleep(0.3)
            server.start()
        wait_for_more()
        over.set()
        for thread in threads:
            thread.join(60)
        assert failures == []
        assert pool.retries.total > 0
    assert {decision.outcome for _, decision in asked} == {Outcome.ASSIGNED}
    with server.store.connect() as connection:
        assert [booking.book(connection, request) for request, _ in asked] == [one for _, one in asked]
    assert town.ask("SELECT count(*) FROM rides") == [(len(asked),)]
    assert_audit_passes(server.store)


@pytest.mark.slow
def test_a_server_that_does_not_return_is_reported_in_one_sentence(server: PrivateServer):
    with RetryPool(server.store, 1, RetryPolicy(seconds_max=0.5)) as pool:
        pool.call(lambda connection: connection.execute("SELECT 1"))
        server.stop()
        try:
            began = time.monotonic()
            with pytest.raises(CannotConnect, match="could not reconnect within") as caught:
                pool.call(lambda connection: connection.execute("SELECT 1"))
            assert time.monotonic() - began < 5
            assert "\n" not in str(caught.value)
        finally:
            server.start()
        assert pool.call(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
