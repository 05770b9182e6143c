"""The operations that a client can send to the store, and how they are sent.

All are idempotent: requests and top-ups have ids, and a status change returns the current status.

One by one, an operation is a call on a connection of the pool. In batches, an operation waits in a queue of
the dispatcher (`oltp.batching`) for the next batch; rare operations are sent one at a time.

A session plans the statements of a function at their first execution, which takes about ten milliseconds per
connection: on two cores a second for thirty connections. In a run of a few seconds these would be the slowest
requests.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp import booking, lifecycle
from oltp.batching import Batcher, Dispatcher
from oltp.pool import RetryPool
from oltp.retry import RetryPolicy
from oltp.store import Store, transaction
from oltp.workload.runner import ClientGroup, run_clients
from ridelake.errors import CannotConnect, DispatcherClosed
from ridelake.ride import CancelReason, Decision, DriverStatus, PaymentStatus, RideRequest, new_request_id

Answer = TypeVar("Answer")
ClientScript = Generator["Operation", Any, None]
"""A client: yields an operation and receives its result."""

# Together with the last wait for a connection, a run without a server ends after 15 s.
PATIENCE = RetryPolicy(seconds_max=13.0)
BOOKING_WORKERS = 2
SIDE_WORKERS = 2  # for operations for which the dispatcher has no queue
BATCH_CONNECTIONS = BOOKING_WORKERS + 3 + SIDE_WORKERS  # three: starts, completions, cancellations
HANG_UP_SECONDS = 0.0005  # long enough that some abandoned requests are in a batch


class Operation(Protocol):
    def on(self, connection: Connection[TupleRow]) -> object:
        """Execute the operation and return its result."""


@dataclass(frozen=True, slots=True)
class Book:
    request: RideRequest

    def on(self, connection: Connection[TupleRow]) -> Decision:
        return booking.book(connection, self.request)


@dataclass(frozen=True, slots=True)
class AbandonRequest:
    """Send the request and close the connection without reading the answer."""

    request: RideRequest

    def on(self, connection: Connection[TupleRow]) -> None:
        request = self.request
        connection.pgconn.send_query_params(
            b"SELECT book_ride($1::uuid, $2::bigint, $3::int, $4::int, $5::int, $6::bigint)",
            [
                str(value).encode()
                for value in (
                    *(request.request_id, request.rider_id, request.pickup_zone_id),
                    *(request.dropoff_zone_id, request.distance_metres, request.fare_cents),
                )
            ],
        )
        connection.pgconn.flush()
        connection.close()


@dataclass(frozen=True, slots=True)
class Start:
    ride_id: int

    def on(self, connection: Connection[TupleRow]) -> lifecycle.OptionalRideStatus:
        return lifecycle.start(connection, self.ride_id)


@dataclass(frozen=True, slots=True)
class Complete:
    ride_id: int
    tip_cents: int

    def on(self, connection: Connection[TupleRow]) -> lifecycle.OptionalRideStatus:
        return lifecycle.complete(connection, self.ride_id, self.tip_cents)


@dataclass(frozen=True, slots=True)
class Cancel:
    ride_id: int
    reason: CancelReason

    def on(self, connection: Connection[TupleRow]) -> lifecycle.OptionalRideStatus:
        return lifecycle.cancel(connection, self.ride_id, self.reason)


@dataclass(frozen=True, slots=True)
class Refund:
    ride_id: int

    def on(self, connection: Connection[TupleRow]) -> PaymentStatus | None:
        return lifecycle.refund(connection, self.ride_id)


@dataclass(frozen=True, slots=True)
class TopUp:
    rider_id: int
    amount_cents: int
    top_up_id: UUID

    def on(self, connection: Connection[TupleRow]) -> int | None:
        return lifecycle.top_up(connection, self.rider_id, self.amount_cents, self.top_up_id)


@dataclass(frozen=True, slots=True)
class GoOffline:
    driver_id: int

    def on(self, connection: Connection[TupleRow]) -> DriverStatus | None:
        return lifecycle.driver_offline(connection, self.driver_id)


@dataclass(frozen=True, slots=True)
class GoOnline:
    driver_id: int
    zone_id: int

    def on(self, connection: Connection[TupleRow]) -> DriverStatus | None:
        return lifecycle.driver_online(connection, self.driver_id, self.zone_id)


class RunPool(RetryPool):
    """The pool of a run. When one call has given up, the others fail immediately."""

    def __init__(self, store: Store, size: int) -> None:
        super().__init__(store, size, PATIENCE)
        self._given_up = threading.Event()

    def __enter__(self) -> "RunPool":
        return self

    def close(self) -> None:
        self.give_up()
        super().close()

    def give_up(self) -> None:
        self._given_up.set()

    @property
    def given_up(self) -> bool:
        return self._given_up.is_set()

    def _once(self, verb: Callable[[Connection[TupleRow]], Answer]) -> Answer:
        if self._given_up.is_set():
            raise DispatcherClosed("the run is over; no more requests are sent")
        return super()._once(verb)


def play(script: ClientScript, line: RunPool) -> None:
    """Execute the operations of a client one by one."""
    answer: Any = None
    with suppress(StopIteration):
        while True:
            answer = line.call(script.send(answer).on)


class BatchClient:
    """Executes the operations of clients of an event loop."""

    def __init__(self, line: RunPool, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._side: Batcher[Operation, object] = Batcher(line, _each, workers=SIDE_WORKERS, batch_max=1)

    def close(self) -> None:
        self._side.close()

    async def play(self, script: ClientScript) -> None:
        answer: Any = None
        with suppress(StopIteration):
            while True:
                answer = await self._ask(script.send(answer))

    async def _ask(self, verb: Operation) -> object:
        match verb:
            case Book(request):
                return await self._dispatcher.bookings.ask(request)
            case AbandonRequest(request):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._dispatcher.bookings.ask(request), HANG_UP_SECONDS)
                return None  # the client does not read the answer
            case Start(ride_id):
                return await self._dispatcher.starts.ask(ride_id)
            case Complete(ride_id, tip_cents):
                return await self._dispatcher.completions.ask((ride_id, tip_cents))
            case Cancel(ride_id, CancelReason.RIDER):
                return await self._dispatcher.cancellations.ask(ride_id)
        return await self._side.ask(verb)


def _each(connection: Connection[TupleRow], verbs: Sequence[Operation]) -> list[object]:
    return [verb.on(connection) for verb in verbs]


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

        with suppress(CannotConnect, DispatcherClosed):  # the run itself will report it
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
        again = RideRequest(
            new_request_id(),
            request.rider_id,
            request.pickup_zone_id,
            request.dropoff_zone_id,
            request.distance_metres,
            request.fare_cents,
        )
        (decision,) = booking.book_many(connection, [again])
        lifecycle.cancel(connection, decision.ride_id or 0)
        raise _Over
