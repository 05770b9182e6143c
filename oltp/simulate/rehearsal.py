"""Every verb once on every connection, and taken back, before the clock runs.

A session of Postgres plans a function's statements when it first runs them: some ten milliseconds of work a
connection, which on two cores is a second for thirty of them. A service does that once in its life; a run of
a few seconds would count it as its slowest requests.
"""

from contextlib import suppress

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp import booking, moves
from oltp.store import transaction
from ridelake.ride import RideRequest, new_request_id


class _Over(Exception):
    """Takes everything back."""


def rehearse(connection: Connection[TupleRow], request: RideRequest) -> None:
    """Book, start and complete a ride, book and cancel another, and leave no trace."""
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
