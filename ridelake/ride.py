"""The words of a ride: what is asked, what is decided.

The database decides (`oltp/schema.sql`, function `book_ride`); these are its words in Python.
"""

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Outcome(StrEnum):
    """What a request came to. Only `ASSIGNED` makes a ride; every other leaves nothing but this record."""

    ASSIGNED = "assigned"
    PAYMENT_DECLINED = "payment_declined"  # the rider's free balance does not cover the fare
    NO_DRIVER_AVAILABLE = "no_driver_available"  # nobody free in the city of the pick-up
    RIDER_BUSY = "rider_busy"  # the rider has an active ride already
    UNKNOWN_RIDER = "unknown_rider"
    UNKNOWN_ZONE = "unknown_zone"  # of pick-up or drop-off, or the two are in different cities
    REQUEST_MISMATCH = "request_mismatch"  # the id was used before with other parameters; never stored


class RideStatus(StrEnum):
    """assigned → started → completed, or assigned → cancelled. The database enforces the moves."""

    ASSIGNED = "assigned"
    STARTED = "started"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class RideRequest:
    """A rider's wish. `request_id` is made by the client and is the idempotency key: the same id is
    decided once. `fare_cents` is the price shown to the rider; `distance_metres` the planned way."""

    request_id: UUID
    rider_id: int
    pickup_zone_id: int
    dropoff_zone_id: int
    distance_metres: int
    fare_cents: int


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
