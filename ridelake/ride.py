"""The words of a ride: what is asked, what is decided.

The database decides (`oltp/schema.sql`, function `book_ride`); these are its words in Python.
"""

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from ridelake.errors import UsageError

BIGINT_MAX, INTEGER_MAX = 2**63 - 1, 2**31 - 1  # of Postgres


class Outcome(StrEnum):
    """What a request came to. Only `ASSIGNED` makes a ride; every other leaves nothing but this record."""

    ASSIGNED = "assigned"
    PAYMENT_DECLINED = "payment_declined"  # the rider's free balance does not cover the fare
    NO_DRIVER_AVAILABLE = "no_driver_available"  # nobody free in the city of the pick-up
    RIDER_BUSY = "rider_busy"  # the rider has an active ride already
    UNKNOWN_RIDER = "unknown_rider"
    UNKNOWN_ZONE = "unknown_zone"  # of pick-up or drop-off, or the two are in different cities
    REQUEST_MISMATCH = "request_mismatch"  # the id was used before with other parameters; never stored
    INVALID_REQUEST = "invalid_request"  # a fare of nothing, a file's id; never stored


class RideStatus(StrEnum):
    """assigned → started → completed, or assigned → cancelled. The database enforces the moves."""

    ASSIGNED = "assigned"
    STARTED = "started"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class CancelReason(StrEnum):
    """Why a ride ended before it began."""

    RIDER = "rider"
    DRIVER = "driver"
    NO_SHOW = "no_show"  # a fee is captured for the driver's way in vain
    EXPIRED = "expired"  # nobody moved it for too long


class PaymentStatus(StrEnum):
    """held → captured | voided, captured → refunded."""

    HELD = "held"
    CAPTURED = "captured"
    VOIDED = "voided"
    REFUNDED = "refunded"


class DriverStatus(StrEnum):
    """offline ↔ available ↔ busy; busy if and only if exactly one ride is under way."""

    OFFLINE = "offline"
    AVAILABLE = "available"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class RideRequest:
    """A rider's wish. `request_id` is made by the client and is the idempotency key: the same id is
    decided once. `fare_cents` is the price shown to the rider; `distance_metres` the planned way.

    Raises UsageError if it cannot be meant: a fare not above 0, a negative way, a number too large, an id of
    version 8, which is kept for rides that came from a file."""

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
                f"not a request: {self.distance_metres} metres, {self.fare_cents} cents; a fare is above 0, "
                "a distance not below 0, and every number fits Postgres' bigint or integer"
            )
        if self.request_id.int >> 76 & 0xF == 8:
            raise UsageError(
                f"not a request: {self.request_id} is a UUID of version 8, as rides have that came from a "
                "file; make ids by new_request_id()"
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

    Time-ordered, so that new keys land on the last page of the index."""
    unix_ms = time.time_ns() // 1_000_000
    value = (unix_ms << 80) | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | (0x7 << 76)  # version 7
    value = value & ~(0x3 << 62) | (0x2 << 62)  # variant RFC
    return UUID(int=value)
