"""Requests, decisions and the states of a ride.

The database decides (`oltp/booking.sql`, function `book_ride`); these are its types in Python.
"""

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from ridelake.errors import UsageError

BIGINT_MAX, INTEGER_MAX = 2**63 - 1, 2**31 - 1  # limits of the Postgres types


class Outcome(StrEnum):
    """The outcome of a request. Only `ASSIGNED` creates a ride; every other outcome stores only its
    record."""

    ASSIGNED = "assigned"
    PAYMENT_DECLINED = "payment_declined"  # the rider's free balance does not cover the fare
    NO_DRIVER_AVAILABLE = "no_driver_available"  # in the city of the pick-up
    RIDER_BUSY = "rider_busy"  # the rider already has an active ride
    UNKNOWN_RIDER = "unknown_rider"
    UNKNOWN_ZONE = "unknown_zone"  # of pick-up or drop-off, or the two are in different cities
    REQUEST_MISMATCH = "request_mismatch"  # the id was used before with other parameters; never stored
    INVALID_REQUEST = "invalid_request"  # a fare of 0, or an id of version 8; never stored


class RideStatus(StrEnum):
    """assigned → started → completed, or assigned → cancelled. The database enforces the transitions."""

    ASSIGNED = "assigned"
    STARTED = "started"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class CancelReason(StrEnum):
    """Why a ride was cancelled."""

    RIDER = "rider"
    DRIVER = "driver"
    NO_SHOW = "no_show"  # a fee is captured for the driver
    EXPIRED = "expired"  # no client started or cancelled it in time


class PaymentStatus(StrEnum):
    """held → captured | voided, captured → refunded."""

    HELD = "held"
    CAPTURED = "captured"
    VOIDED = "voided"
    REFUNDED = "refunded"


class DriverStatus(StrEnum):
    """offline ↔ available ↔ busy; busy if and only if the driver has exactly one active ride."""

    OFFLINE = "offline"
    AVAILABLE = "available"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class RideRequest:
    """A request for a ride. The client chooses `request_id`, the idempotency key: an id is decided once.
    `fare_cents` is the price shown to the rider, `distance_metres` the length of the planned route.

    Raises UsageError if it is invalid: a fare not above 0, a negative distance, a number out of range, or an
    id of version 8, which is reserved for rides loaded from files."""

    request_id: UUID
    rider_id: int
    pickup_zone_id: int
    dropoff_zone_id: int
    distance_metres: int
    fare_cents: int

    def __post_init__(self) -> None:
        if not (
            0 < self.fare_cents <= BIGINT_MAX
            and 0 <= self.distance_metres <= INTEGER_MAX
            and abs(self.rider_id) <= BIGINT_MAX
            and abs(self.pickup_zone_id) <= INTEGER_MAX
            and abs(self.dropoff_zone_id) <= INTEGER_MAX
        ):
            raise UsageError(
                f"invalid request: {self.distance_metres} metres, {self.fare_cents} cents; the fare must be "
                "above 0, the distance at least 0, and every number must fit bigint or integer"
            )
        if self.request_id.int >> 76 & 0xF == 8:
            raise UsageError(
                f"invalid request: {self.request_id} is a UUID of version 8, which is reserved for rides "
                "loaded from files; create ids with new_request_id()"
            )


@dataclass(frozen=True, slots=True)
class Decision:
    """The store's answer to a request. `ride_id` and `driver_id` are None unless `ASSIGNED`."""

    request_id: UUID
    outcome: Outcome
    ride_id: int | None
    driver_id: int | None


def new_request_id() -> UUID:
    """A UUIDv7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, then 74 random bits.

    Ordered by time, so that new keys go to the last page of the index."""
    unix_ms = time.time_ns() // 1_000_000
    value = (unix_ms << 80) | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | (0x7 << 76)  # version 7
    value = value & ~(0x3 << 62) | (0x2 << 62)  # variant RFC
    return UUID(int=value)
