"""Status changes of rides, payments and drivers, one round trip each. The logic is in `lifecycle.sql`.

Every function returns the status after the call and is idempotent: a repeated call changes nothing and
returns the same status.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from oltp.booking import array_literal
from ridelake.ride import CancelReason, DriverStatus, PaymentStatus, RideStatus

START = b"SELECT place, status FROM start_rides(%s::bigint[])"
COMPLETE = b"SELECT place, status FROM complete_rides(%s::bigint[], %s::bigint[])"
CANCEL = b"SELECT place, status FROM cancel_rides(%s::bigint[], %s::cancel_reason)"
REFUND = b"SELECT refund_ride(%s::bigint)"
TOP_UP = b"SELECT top_up(%s::bigint, %s::bigint, %s::uuid)"
ONLINE = b"SELECT driver_online(%s::bigint, %s::int)"
OFFLINE = b"SELECT driver_offline(%s::bigint)"
EXPIRE = b"SELECT cancelled, completed FROM expire_rides(%s::timestamptz, %s::timestamptz, %s)"

# The status of a ride; None if there is no such ride.
OptionalRideStatus = RideStatus | None


def start(connection: Connection[TupleRow], ride_id: int) -> OptionalRideStatus:
    """assigned → started."""
    return start_many(connection, [ride_id])[0]


def start_many(connection: Connection[TupleRow], ride_ids: Sequence[int]) -> list[OptionalRideStatus]:
    return _standings(connection, START, (array_literal(ride_ids),), len(ride_ids))


def complete(connection: Connection[TupleRow], ride_id: int, tip_cents: int = 0) -> OptionalRideStatus:
    """started → completed: the hold is captured, the driver is paid and becomes available. A tip that the
    rider cannot pay is omitted."""
    return complete_many(connection, [(ride_id, tip_cents)])[0]


def complete_many(
    connection: Connection[TupleRow], rides: Sequence[tuple[int, int]]
) -> list[OptionalRideStatus]:
    """Complete rides, each with its tip in cents. If a ride is named twice, the first tip is paid."""
    ride_ids, tips_cents = zip(*rides, strict=True) if rides else ((), ())
    return _standings(connection, COMPLETE, (array_literal(ride_ids), array_literal(tips_cents)), len(rides))


def cancel(
    connection: Connection[TupleRow], ride_id: int, reason: CancelReason = CancelReason.RIDER
) -> OptionalRideStatus:
    """assigned → cancelled: the hold is voided, or the fee of a no-show is captured; the driver becomes
    available."""
    return cancel_many(connection, [ride_id], reason)[0]


def cancel_many(
    connection: Connection[TupleRow], ride_ids: Sequence[int], reason: CancelReason = CancelReason.RIDER
) -> list[OptionalRideStatus]:
    return _standings(connection, CANCEL, (array_literal(ride_ids), reason.value), len(ride_ids))


def refund(connection: Connection[TupleRow], ride_id: int) -> PaymentStatus | None:
    """captured → refunded. Returns the status of the payment; None if there is no such ride."""
    status = _one(connection, REFUND, (ride_id,))
    return None if status is None else PaymentStatus(status)


def top_up(
    connection: Connection[TupleRow], rider_id: int, amount_cents: int, top_up_id: UUID | None = None
) -> int | None:
    """Add money to a rider's account. With `top_up_id`, a repeated top-up is applied once. Returns the id of
    the transfer; None for an unknown rider, or an id that was used for another top-up.

    Raises psycopg.errors.CheckViolation for an amount that is not above 0."""
    transfer_id: int | None = _one(connection, TOP_UP, (rider_id, amount_cents, top_up_id))
    return transfer_id


def driver_online(connection: Connection[TupleRow], driver_id: int, zone_id: int) -> DriverStatus | None:
    """offline → available, in a zone. None if there is no such driver or zone."""
    status = _one(connection, ONLINE, (driver_id, zone_id))
    return None if status is None else DriverStatus(status)


def driver_offline(connection: Connection[TupleRow], driver_id: int) -> DriverStatus | None:
    """available → offline; a busy driver stays busy. None if there is no such driver."""
    status = _one(connection, OFFLINE, (driver_id,))
    return None if status is None else DriverStatus(status)


def expire(
    connection: Connection[TupleRow],
    assigned_before: datetime,
    started_before: datetime,
    ids_end: bytes = b"",
) -> tuple[int, int]:
    """End abandoned rides; returns how many were (cancelled, completed). With `ids_end`, only rides whose
    request id ends with these bytes."""
    row = connection.execute(EXPIRE, (assigned_before, started_before, ids_end)).fetchone()
    assert row is not None, "expire_rides() always returns a row"
    return row[0], row[1]


def _standings(
    connection: Connection[TupleRow], statement: bytes, parameters: tuple[Any, ...], count: int
) -> list[OptionalRideStatus]:
    standings: list[OptionalRideStatus] = [None] * count
    for place, status in connection.execute(statement, parameters, prepare=True):
        standings[place - 1] = None if status is None else RideStatus(status)
    return standings


def _one(connection: Connection[TupleRow], statement: bytes, parameters: tuple[Any, ...]) -> Any:
    row = connection.execute(statement, parameters, prepare=True).fetchone()
    return None if row is None else row[0]
