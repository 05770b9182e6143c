"""The store's verbs, one round trip each. What they do is in `booking.sql`."""

from psycopg import Connection, errors
from psycopg.rows import TupleRow

from ridelake.errors import UsageError
from ridelake.ride import Decision, Outcome, RideRequest

BOOK = "SELECT outcome, ride_id, driver_id FROM book_ride(%s, %s, %s, %s, %s, %s)"


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
        row = connection.execute(BOOK, parameters, prepare=True).fetchone()
    except (errors.CheckViolation, errors.NumericValueOutOfRange) as error:
        said = error.diag.message_primary
        raise UsageError(f"not a request: {said}; a fare is above 0 cents, a distance not below 0") from error
    assert row is not None, "book_ride() always answers"
    return Decision(request.request_id, Outcome(row[0]), row[1], row[2])


def start(connection: Connection[TupleRow], ride_id: int) -> bool:
    """assigned → started. False if the ride is not waiting to start."""
    return _moved(connection, "SELECT start_ride(%s)", (ride_id,))


def complete(connection: Connection[TupleRow], ride_id: int, tip_cents: int = 0) -> bool:
    """started → completed: the hold is captured, the driver free. False if the ride is not under way."""
    return _moved(connection, "SELECT complete_ride(%s, %s)", (ride_id, tip_cents))


def cancel(connection: Connection[TupleRow], ride_id: int) -> bool:
    """assigned → cancelled: the hold is voided, the driver free. False if it is too late."""
    return _moved(connection, "SELECT cancel_ride(%s)", (ride_id,))


def _moved(connection: Connection[TupleRow], statement: str, parameters: tuple[int, ...]) -> bool:
    row = connection.execute(statement.encode(), parameters, prepare=True).fetchone()
    return row == (True,)
