"""When to send it again, and for how long.

Four kinds of failure leave the caller with nothing to mend and a reason to repeat:

    40001, 40P01          the server chose us as the victim of a conflict; the next try may win
    25006                 it is a standby now: of several hosts the next connection leads to the primary
    57P0x                 the server stops, crashes or starts
    08xxx, or no code     the connection is gone, and with it perhaps an answer; or a commit was answered
                          before the standby had it (`oltp.connection`)

After the last kind nobody knows whether the work was done. It is sent again all the same, because every
verb of the store may be: a request carries its id, a move answers where the ride stands. (Asking Postgres
about the transaction instead, by pg_xact_status(), would be wrong: after a crash the number may belong to
somebody else's.)

Waits double and are drawn from nothing to the bound ("full jitter", Marc Brooker, "Exponential Backoff And
Jitter", AWS 2015), so that those who failed together do not come back together.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from ridelake.errors import CannotConnect, Unreplicated

Answer = TypeVar("Answer")

CONFLICTS = frozenset({"40001", "40P01"})
STANDBY = "25006"
SERVER_STATES = frozenset({"57P01", "57P02", "57P03", "57P05"})
NO_ANSWER = "connection lost"  # counted under this name, as there is no code
UNREPLICATED = "not on the standby"  # the same


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often. Fifteen seconds outlast a crash recovery of the embedded server."""

    seconds_max: float = 15.0
    tries_max: int = 100
    first_wait_seconds: float = 0.002
    longest_wait_seconds: float = 0.25


PATIENCE = Patience()


@dataclass(slots=True)
class Retries:
    """What was sent again, by reason: an SQLSTATE, or `connection lost`."""

    by_reason: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def count(self, reason: str) -> None:
        with self._lock:
            self.by_reason[reason] += 1

    @property
    def total(self) -> int:
        return sum(self.by_reason.values())


def retryable(error: Exception) -> str | None:
    """The reason to send it again, or None if that would not help."""
    if isinstance(error, Unreplicated):
        return UNREPLICATED
    if isinstance(error, CannotConnect | PoolTimeout):
        return NO_ANSWER
    if not isinstance(error, psycopg.Error) or isinstance(error, PoolClosed):
        return None
    if error.sqlstate is None:
        return NO_ANSWER if isinstance(error, psycopg.OperationalError) else None
    if error.sqlstate in {*CONFLICTS, *SERVER_STATES, STANDBY} or error.sqlstate.startswith("08"):
        return error.sqlstate
    return None


def leaves_doubt(error: Exception) -> bool:
    """Whether the work may have been done all the same. A conflict undid it; of the rest nobody knows."""
    reason = retryable(error)
    return reason is not None and reason not in CONFLICTS


def persist(call: Callable[[], Answer], patience: Patience, retries: Retries) -> Answer:
    """`call()`, again and again while that makes sense.

    Raises CannotConnect if the server has not come back in time, Unreplicated if the standby has not; whether
    the last try was done is unknown then. Raises what `call` raises if repeating does not help."""
    give_up = time.monotonic() + patience.seconds_max
    wait_seconds = patience.first_wait_seconds
    for tried in range(1, patience.tries_max + 1):
        try:
            return call()
        except Exception as error:
            reason = retryable(error)
            if reason is None:
                raise
            if tried == patience.tries_max or time.monotonic() > give_up:
                if reason in CONFLICTS or isinstance(error, Unreplicated):
                    raise
                raise CannotConnect(
                    f"Postgres went away and did not come back in {patience.seconds_max:.0f} s "
                    f"({_said(error)}): what it acknowledged is kept; send the rest again, with the same ids"
                ) from error
            retries.count(reason)
        time.sleep(random.uniform(0, wait_seconds))
        wait_seconds = min(wait_seconds * 2, patience.longest_wait_seconds)
    raise AssertionError("the last try returns or raises")


def _said(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
