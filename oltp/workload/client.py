"""The behavior of one client, and the operations that it sends to the store.

A client is a generator: it yields an operation and receives the result.

    decision = yield call(booking.book, request)

All operations are idempotent: requests and top-ups have ids, and a status change returns the current status.
One by one, an operation is a call on a connection of the pool. In batches, it waits in a queue of the
batcher (`oltp.batching`) for the next batch; rare operations are sent one at a time.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, TypeVar

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp import booking, lifecycle
from oltp.batching import Batcher, BatchQueue
from oltp.pool import RetryPool
from oltp.retry import RetryPolicy
from oltp.store import Store, transaction
from oltp.workload.metrics import Metrics
from oltp.workload.runner import ClientGroup, run_clients
from oltp.workload.schedule import TOP_UP_CENTS, Scenario, ScheduledRequest
from ridelake.errors import BatcherClosed, CannotConnect, ProofFailed
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

Answer = TypeVar("Answer")
ClientScript = Generator["Operation", Any, None]
"""A client: yields an operation and receives its result."""

# Together with the last wait for a connection, a run without a server ends after 15 s.
RUN_POLICY = RetryPolicy(seconds_max=13.0)
BOOKING_WORKERS = 2
SIDE_WORKERS = 2  # threads for operations for which the batcher has no queue
BATCH_CONNECTIONS = BOOKING_WORKERS + 3 + SIDE_WORKERS  # three: starts, completions, cancellations
HANG_UP_SECONDS = 0.0005  # long enough that some abandoned requests are in a batch


@dataclass(frozen=True, slots=True)
class Operation:
    """A function of `booking` or `lifecycle`, and its arguments after the connection."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def on(self, connection: Connection[TupleRow]) -> Any:
        return self.function(connection, *self.arguments)


def call(function: Callable[..., Any], *arguments: Any) -> Operation:
    return Operation(function, arguments)


def abandon(connection: Connection[TupleRow], request: RideRequest) -> None:
    """Send the request and close the connection without reading the answer."""
    connection.pgconn.send_query_params(
        b"SELECT book_ride($1::uuid, $2::bigint, $3::int, $4::int, $5::int, $6::bigint)",
        [str(value).encode() for value in booking.columns(request)],
    )
    connection.pgconn.flush()
    connection.close()


class RunPool(RetryPool):
    """The pool of a run. When one call has exhausted its retries, the others fail immediately."""

    def __init__(self, store: Store, size: int) -> None:
        super().__init__(store, size, RUN_POLICY)
        self._given_up = threading.Event()

    def close(self) -> None:
        self.give_up()
        super().close()

    def give_up(self) -> None:
        self._given_up.set()

    @property
    def given_up(self) -> bool:
        return self._given_up.is_set()

    def _once(self, operation: Callable[[Connection[TupleRow]], Answer]) -> Answer:
        if self._given_up.is_set():
            raise BatcherClosed("the run is over; no more requests are sent")
        return super()._once(operation)


def play(script: ClientScript, line: RunPool) -> None:
    """Execute the operations of a client one by one."""
    answer: Any = None
    with suppress(StopIteration):
        while True:
            answer = line.call(script.send(answer).on)


class BatchClient:
    """Executes the operations of clients of an event loop."""

    def __init__(self, line: RunPool, batcher: Batcher) -> None:
        self._batcher = batcher
        self._side: BatchQueue[Operation, object] = BatchQueue(line, _each, workers=SIDE_WORKERS, batch_max=1)

    def close(self) -> None:
        self._side.close()

    async def play(self, script: ClientScript) -> None:
        answer: Any = None
        with suppress(StopIteration):
            while True:
                answer = await self._ask(script.send(answer))

    async def _ask(self, operation: Operation) -> object:
        lanes = self._batcher
        match operation.arguments:
            case (request,) if operation.function is booking.book:
                return await lanes.bookings.ask(request)
            case (request,) if operation.function is abandon:
                with suppress(TimeoutError):
                    await asyncio.wait_for(lanes.bookings.ask(request), HANG_UP_SECONDS)
                return None  # the client does not read the answer
            case (ride_id,) if operation.function is lifecycle.start:
                return await lanes.starts.ask(ride_id)
            case ride if operation.function is lifecycle.complete:
                return await lanes.completions.ask(ride)
            case (ride_id, CancelReason.RIDER) if operation.function is lifecycle.cancel:
                return await lanes.cancellations.ask(ride_id)
        return await self._side.ask(operation)


def _each(connection: Connection[TupleRow], operations: Sequence[Operation]) -> list[object]:
    return [operation.on(connection) for operation in operations]


class _Over(Exception):
    """Rolls everything back."""


def warm_up(line: RunPool, requests: Sequence[RideRequest]) -> None:
    """Open as many connections as there are requests, and rehearse one request on each, before the clock
    starts. Each connection is held until all are open, at most two seconds."""
    together = threading.Barrier(len(requests))

    def open_one(request: RideRequest) -> None:
        def hold(connection: Connection[TupleRow]) -> None:
            with suppress(threading.BrokenBarrierError):
                together.wait(2.0)
            _warm_up_session(connection, request)

        with suppress(CannotConnect, BatcherClosed):  # the run itself will report it
            line.call(hold)

    def client(request: RideRequest) -> Callable[[ClientGroup], None]:
        return lambda group: open_one(request)

    run_clients([client(request) for request in requests])


def _warm_up_session(connection: Connection[TupleRow], request: RideRequest) -> None:
    """Book, start and complete a ride, book and cancel another, and roll back."""
    with suppress(_Over), transaction(connection):
        ride_id = booking.book(connection, request).ride_id or 0
        lifecycle.start(connection, ride_id)
        lifecycle.complete(connection, ride_id)
        again = replace(request, request_id=new_request_id())
        (decision,) = booking.book_many(connection, [again])
        lifecycle.cancel(connection, decision.ride_id or 0)
        raise _Over


class SimulatedClient:
    """Sends requests one after the other. Unfinished work of a request (an answer that was not read, a driver
    that is offline) is completed after the next request, or at the end."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._in_doubt: list[RideRequest] = []
        self._resting: list[tuple[int, int]] = []  # offline drivers, and the zones where they go online again

    def turn(self, turn: ScheduledRequest) -> ClientScript:
        """Process one request to its end. Raises ProofFailed for an incorrect answer."""
        in_doubt, self._in_doubt = self._in_doubt, []
        resting, self._resting = self._resting, []
        if turn.scenario.abandoned:
            yield call(abandon, turn.request)
            self._metrics.happened("abandoned")
            self._in_doubt.append(turn.request)
        else:
            yield from self._ask(turn)
        yield from self._settle_open_work(in_doubt, resting)

    def leave(self) -> ClientScript:
        """Complete what is open."""
        yield from self._settle_open_work(self._in_doubt, self._resting)

    def _ask(self, turn: ScheduledRequest) -> ClientScript:
        asked = perf_counter() if turn.due is None else turn.due
        decision: Decision = yield call(booking.book, turn.request)
        self._metrics.decided(decision, perf_counter() - asked)
        if turn.scenario.sent_again:
            yield from self._ask_again(turn.request, decision)
        if decision.ride_id is not None:
            yield from self._ride(turn.request, turn.scenario, decision)
            if turn.scenario.sent_again:
                yield from self._ask_again(turn.request, decision)
        elif decision.outcome is Outcome.PAYMENT_DECLINED and turn.scenario.topped_up:
            yield from self._top_up(turn.request.rider_id)

    def _ask_again(self, request: RideRequest, decision: Decision) -> ClientScript:
        again: Decision = yield call(booking.book, request)
        self._metrics.happened("sent_again")
        if again != decision:
            raise ProofFailed(
                f"request {request.request_id} was answered with {_shown(decision)}, and with "
                f"{_shown(again)} when it was sent again"
            )

    def _ride(self, request: RideRequest, scenario: Scenario, decision: Decision) -> ClientScript:
        ride_id = decision.ride_id
        assert ride_id is not None
        if scenario.cancelled is not None:
            yield from self._cancel(ride_id, scenario.cancelled)
            return
        status: lifecycle.OptionalRideStatus = yield call(lifecycle.start, ride_id)
        if status is RideStatus.STARTED:
            status = yield call(lifecycle.complete, ride_id, scenario.tip_cents)
        if status is RideStatus.CANCELLED:  # another run has expired the ride: see `requests.expire`
            self._metrics.cancelled(CancelReason.EXPIRED)
            return
        self._check(f"ride {ride_id} after complete()", status, RideStatus.COMPLETED)
        self._metrics.happened("completed")
        if scenario.refunded:
            payment: PaymentStatus | None = yield call(lifecycle.refund, ride_id)
            self._check(f"the payment of ride {ride_id} after refund()", payment, PaymentStatus.REFUNDED)
            self._metrics.happened("refunded")
        if scenario.went_offline and decision.driver_id is not None:
            driver: DriverStatus | None = yield call(lifecycle.driver_offline, decision.driver_id)
            if driver is DriverStatus.OFFLINE:  # otherwise another request has claimed the driver
                self._metrics.happened("went_offline")
                self._resting.append((decision.driver_id, request.dropoff_zone_id))

    def _cancel(self, ride_id: int, reason: CancelReason) -> ClientScript:
        status: lifecycle.OptionalRideStatus = yield call(lifecycle.cancel, ride_id, reason)
        self._check(f"ride {ride_id} after cancel()", status, RideStatus.CANCELLED)
        self._metrics.cancelled(reason)

    def _top_up(self, rider_id: int) -> ClientScript:
        """Sent twice (double tap); must be applied once."""
        top_up_id = new_request_id()
        top_up = call(lifecycle.top_up, rider_id, TOP_UP_CENTS, top_up_id)
        first: int | None = yield top_up
        second: int | None = yield top_up
        if first is None or first != second:
            raise ProofFailed(
                f"top-up {top_up_id} returned transfer {first}, and transfer {second} when it was repeated"
            )
        self._metrics.happened("topped_up")

    def _settle_open_work(self, in_doubt: list[RideRequest], resting: list[tuple[int, int]]) -> ClientScript:
        for request in in_doubt:  # decided now if not before; the client does not want the ride any more
            decision: Decision = yield call(booking.book, request)
            self._metrics.decided(decision, None)
            self._metrics.happened("settled")
            if decision.ride_id is not None:
                yield from self._cancel(decision.ride_id, CancelReason.EXPIRED)
        for driver_id, zone_id in resting:
            yield call(lifecycle.driver_online, driver_id, zone_id)

    def _check(self, what: str, status: object, wanted: object) -> None:
        if status is not wanted:
            raise ProofFailed(f"{what} is {status or 'missing'}, not {wanted}")


def _shown(decision: Decision) -> str:
    return f"{decision.outcome} (ride {decision.ride_id or 'none'}, driver {decision.driver_id or 'none'})"
