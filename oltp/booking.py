"""Book rides: one round trip for one request or for many. The logic is in `booking.sql`."""

from collections.abc import Iterable, Sequence
from operator import attrgetter

from psycopg import Connection, errors
from psycopg.rows import TupleRow

from ridelake.ride import Decision, Outcome, RideRequest

BOOK = b"""
    SELECT outcome, ride_id, driver_id
    FROM book_ride(%s, %s::bigint, %s::int, %s::int, %s::int, %s::bigint)"""
BOOK_MANY = b"""
    SELECT place, outcome, ride_id, driver_id
    FROM book_rides(%s::uuid[], %s::bigint[], %s::int[], %s::int[], %s::int[], %s::bigint[])"""

columns = attrgetter(
    "request_id", "rider_id", "pickup_zone_id", "dropoff_zone_id", "distance_metres", "fare_cents"
)
"""The parameters of a request, in the order of book_ride()."""

KEYS_OF_REQUESTS = ("requests_pkey", "rides_request_id_key")


def book(connection: Connection[TupleRow], request: RideRequest) -> Decision:
    """Hold the fare, claim a driver and write the ride, or refuse. On a connection in autocommit the decision
    is durable on return. A repeated request with the same id returns the same decision."""
    parameters = columns(request)
    try:
        row = connection.execute(BOOK, parameters, prepare=True).fetchone()
    except errors.UniqueViolation:
        # Another client has sent this id at the same time for another rider. It is decided now.
        row = connection.execute(BOOK, parameters, prepare=True).fetchone()
    assert row is not None, "book_ride() always returns a row"
    return Decision(request.request_id, Outcome(row[0]), row[1], row[2])


def book_many(connection: Connection[TupleRow], requests: Sequence[RideRequest]) -> list[Decision]:
    """Decide all requests in one transaction, each as `book` would. Returns the decisions in the order of the
    requests. Ids and riders may repeat."""
    by_column = zip(*map(columns, requests), strict=True) if requests else [()] * 6
    parameters = [array_literal(column) for column in by_column]
    # Each failure is an id that another client has decided concurrently; the retry finds its decision.
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
    """Numbers or UUIDs as a Postgres array literal. They need no quotes. psycopg's dumper checks each element
    for quoting, which for a batch takes longer than all other work in Python."""
    return "{" + ",".join(map(str, values)) + "}"
