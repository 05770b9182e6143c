"""Which errors are retried, and for how long.

Four kinds of errors are temporary:

    40001, 40P01          a serialization failure or a deadlock; the next attempt may succeed
    25006                 the server is a standby; if the DSN has several hosts, the next connection finds the
                          primary
    57P0x                 the server stops, crashes or starts
    08xxx, or no code     the connection is lost, perhaps after the commit; or a commit returned before the
                          standby had it (`oltp.connection`)

After the last kind the outcome is unknown. The call is retried anyway, because every operation of the store
is idempotent: a request has an id, a status change returns the current status. (pg_xact_status() is not used:
after a crash the transaction id may have been reused.)

Waits double and are drawn between zero and the current bound ("full jitter", Marc Brooker, "Exponential
Backoff And Jitter", AWS 2015), so that clients that failed together do not retry together.
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

from ridelake.errors import CannotConnect, NotReplicated, first_line

Answer = TypeVar("Answer")

CONFLICTS = frozenset({"40001", "40P01"})
STANDBY = "25006"
SERVER_STATES = frozenset({"57P01", "57P02", "57P03", "57P05"})
NO_ANSWER = "connection lost"  # the name of this reason in counts; there is no SQLSTATE
UNREPLICATED = "not on the standby"  # likewise


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often to retry. A crash recovery of the embedded server takes less than 15 s."""

    seconds_max: float = 15.0
    tries_max: int = 100
    first_wait_seconds: float = 0.002
    longest_wait_seconds: float = 0.25


RETRY_POLICY = RetryPolicy()


@dataclass(slots=True)
class RetryCounts:
    """Counts of retries by reason: an SQLSTATE, `connection lost` or `not on the standby`."""

    by_reason: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def count(self, reason: str) -> None:
        with self._lock:
            self.by_reason[reason] += 1

    @property
    def total(self) -> int:
        return sum(self.by_reason.values())


def retry_reason(error: Exception) -> str | None:
    """The reason to retry, or None if the error is not temporary."""
    if isinstance(error, NotReplicated):
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


def outcome_unknown_after(error: Exception) -> bool:
    """Whether the outcome is unknown: the work may have been committed. After a conflict it was rolled
    back."""
    reason = retry_reason(error)
    return reason is not None and reason not in CONFLICTS


def retry(call: Callable[[], Answer], policy: RetryPolicy, retries: RetryCounts) -> Answer:
    """`call()`, retried after temporary errors.

    Raises CannotConnect if no server is back in time, NotReplicated if no standby is; the outcome of
    the last attempt is unknown then. Raises other errors of `call` immediately."""
    give_up = time.monotonic() + policy.seconds_max
    wait_seconds = policy.first_wait_seconds
    for tried in range(1, policy.tries_max + 1):
        try:
            return call()
        except Exception as error:
            reason = retry_reason(error)
            if reason is None:
                raise
            if tried == policy.tries_max or time.monotonic() > give_up:
                if reason in CONFLICTS or isinstance(error, NotReplicated):
                    raise
                raise CannotConnect(
                    f"lost the connection to Postgres and could not reconnect within "
                    f"{policy.seconds_max:.0f} s ({first_line(error)}); check that the server is running. "
                    "Acknowledged requests are stored; send the others again with the same ids"
                ) from error
            retries.count(reason)
        time.sleep(random.uniform(0, wait_seconds))
        wait_seconds = min(wait_seconds * 2, policy.longest_wait_seconds)
    raise AssertionError("the last attempt returns or raises")
