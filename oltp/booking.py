"""Requests in, decisions out: one round trip for one or for many. What happens is in `booking.sql`."""

from collections.abc import Iterable, Sequence

from psycopg import Connection, errors
from psycopg.rows import TupleRow

from ridelake.ride import Decision, Outcome, RideRequest

BOOK = b"""
    SELECT outcome, ride_id, driver_id
    FROM book_ride(%s, %s::bigint, %s::int, %s::int, %s::int, %s::bigint)"""
BOOK_MANY = b"""
    SELECT place, outcome, ride_id, driver_id
    FROM book_rides(%s::uuid[], %s::bigint[], %s::int[], %s::int[], %s::int[], %s::bigint[])"""

KEYS_OF_REQUESTS = ("requests_pkey", "rides_request_id_key")


def book(connection: Connection[TupleRow], request: RideRequest) -> Decision:
    """Hold the fare, claim a driver and write the ride, or refuse. On a connection in autocommit the
    decision is durable when this returns; asked again with the same id, it is answered the same."""
    parameters = _columns(request)
    try:
        row = connection.execute(BOOK, parameters, prepare=True).fetchone()
    except errors.UniqueViolation:
        # Somebody else sent this id at this moment, for another rider: it is decided now.
        row = connection.execute(BOOK, parameters, prepare=True).fetchone()
    assert row is not None, "book_ride() always answers"
    return Decision(request.request_id, Outcome(row[0]), row[1], row[2])


def book_many(connection: Connection[TupleRow], requests: Sequence[RideRequest]) -> list[Decision]:
    """Decide them all in one transaction, each as `book` would have; the answers in the order of the
    requests. Ids and riders may repeat."""
    columns = zip(*map(_columns, requests), strict=True) if requests else [()] * 6
    parameters = [array_literal(column) for column in columns]
    # Each failure is an id that somebody else has decided meanwhile, and that is found decided the next time.
    for failures_left in reversed(range(len(requests) + 1)):
        try:
            rows = connection.execute(BOOK_MANY, parameters, prepare=True).fetchall()
            break
        except errors.UniqueViolation as error:
            if not failures_left or error.diag.constraint_name not in KEYS_OF_REQUESTS:
                raise
    decided = {place: (Outcome(outcome), ride_id, driver_id) for place, outcome, ride_id, driver_id in rows}
    return [Decision(request.request_id, *decided[place]) for place, request in enumerate(requests, start=1)]


def array_literal(values: Iterable[object]) -> str:
    """Numbers or UUIDs as Postgres writes an array. psycopg's own dumper asks of each element whether it
    needs quotes, which for a batch takes longer than everything else that Python does; these never do."""
    return "{" + ",".join(map(str, values)) + "}"


def _columns(request: RideRequest) -> tuple[object, ...]:
    return (
        request.request_id,
        request.rider_id,
        request.pickup_zone_id,
        request.dropoff_zone_id,
        request.distance_metres,
        request.fare_cents,
    )
