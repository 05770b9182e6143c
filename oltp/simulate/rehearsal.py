"""Warm-up: calls every function once on every connection and rolls back, before the clock starts.

A session plans the statements of a function at their first execution, which takes about ten milliseconds per
connection: on two cores a second for thirty connections. In a run of a few seconds these would be the slowest
requests.
"""

from contextlib import suppress

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp import booking, moves
from oltp.store import transaction
from ridelake.ride import RideRequest, new_request_id


class _Over(Exception):
    """Rolls everything back."""


def rehearse(connection: Connection[TupleRow], request: RideRequest) -> None:
    """Book, start and complete a ride, book and cancel another, and roll back."""
    with suppress(_Over), transaction(connection):
        ride_id = booking.book(connection, request).ride_id or 0
        moves.start(connection, ride_id)
        moves.complete(connection, ride_id)
        again = RideRequest(
            new_request_id(),
            request.rider_id,
            request.pickup_zone_id,
            request.dropoff_zone_id,
            request.distance_metres,
            request.fare_cents,
        )
        (decision,) = booking.book_many(connection, [again])
        moves.cancel(connection, decision.ride_id or 0)
        raise _Over
