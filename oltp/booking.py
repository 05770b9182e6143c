"""The store's verbs, one round trip each. What they do is in `booking.sql`."""

from psycopg import Connection, errors
from psycopg.rows import TupleRow

from ridelake.errors import UsageError
from ridelake.ride import Decision, Outcome, RideRequest

BOOK = b"""
    SELECT outcome, ride_id, driver_id
    FROM book_ride(%s, %s::bigint, %s::int, %s::int, %s::int, %s::bigint)"""
START = b"SELECT start_ride(%s::bigint)"
COMPLETE = b"SELECT complete_ride(%s::bigint, %s::bigint)"
CANCEL = b"SELECT cancel_ride(%s::bigint)"


def book(connection: Connection[TupleRow], request: RideRequest) -> Decision:
    """Hold the fare, claim a driver and write the ride, or refuse. On a connection in autocommit the
    decision is durable when this returns; asked again with the same id, it is answered the same.

    Raises UsageError for a request that cannot be meant (a fare of nothing, a negative distance)."""
    parameters = (
        request.request_id,
        request.rider_id,
        request.pickup_zone_id,
        request.dropoff_zone_id,
        request.distance_metres,
        request.fare_cents,
    )
    try:
        try:
            row = connection.execute(BOOK, parameters, prepare=True).fetchone()
        except errors.UniqueViolation:
            # Somebody else sent this id at this moment, for another rider: it is decided now.
            row = connection.execute(BOOK, parameters, prepare=True).fetchone()
    except (errors.CheckViolation, errors.NumericValueOutOfRange) as error:
        said = error.diag.message_primary
        raise UsageError(f"not a request: {said}; a fare is above 0 cents, a distance not below 0") from error
    assert row is not None, "book_ride() always answers"
    return Decision(request.request_id, Outcome(row[0]), row[1], row[2])


def start(connection: Connection[TupleRow], ride_id: int) -> bool:
    """assigned → started. False if the ride is not waiting to start."""
    return _moved(connection, START, (ride_id,))


def complete(connection: Connection[TupleRow], ride_id: int, tip_cents: int = 0) -> bool:
    """started → completed: the hold is captured, the driver free. False if the ride is not under way."""
    return _moved(connection, COMPLETE, (ride_id, tip_cents))


def cancel(connection: Connection[TupleRow], ride_id: int) -> bool:
    """assigned → cancelled: the hold is voided, the driver free. False if it is too late."""
    return _moved(connection, CANCEL, (ride_id,))


def _moved(connection: Connection[TupleRow], statement: bytes, parameters: tuple[int, ...]) -> bool:
    row = connection.execute(statement, parameters, prepare=True).fetchone()
    return row == (True,)
