"""The operations that a client can send to the store.

All are idempotent: requests and top-ups have ids, and a status change returns the current status.

A session plans the statements of a function at their first execution, which takes about ten milliseconds per
connection: on two cores a second for thirty connections. In a run of a few seconds these would be the slowest
requests.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp import booking, lifecycle
from oltp.store import transaction
from ridelake.ride import CancelReason, Decision, DriverStatus, PaymentStatus, RideRequest, new_request_id


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


class _Over(Exception):
    """Rolls everything back."""


def warm_up_session(connection: Connection[TupleRow], request: RideRequest) -> None:
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
