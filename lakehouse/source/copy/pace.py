"""The pace of a copy: how many workers read, and how long they pause, for a given load of the server.

    no other session works                 all workers, no pauses
    others work                            one worker, and pauses
      a probe takes longer than alone      longer pauses
      a probe takes as long as alone       shorter pauses

A probe sleeps on the server for a short time. The server measures how much later it woke up, so the figure
contains neither the network nor the load of this process.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# Lower numbers of sessions and of transactions per second are occasional activity, such as autovacuum.
ACTIVE_SESSIONS_MIN = 0.1
TRANSACTIONS_PER_SECOND_MIN = 10.0

# A delay above this multiple of the delay alone, plus the resolution of the measurement, slows the copy down.
SLOWER_RATIO = 1.5
RESOLUTION_MS = 0.2

# Seconds of pause per second of work. The copy slows down faster than it speeds up.
PAUSE_RATIO_MIN, PAUSE_RATIO_MAX = 2.0, 9.0
SLOW_DOWN, SPEED_UP = 1.5, 0.9


@dataclass(frozen=True, slots=True)
class Pace:
    """`workers`: how many may work at the same time; None: all. `pause_ratio`: seconds of pause per second of
    work."""

    workers: int | None = None
    pause_ratio: float = 0.0


FULL_SPEED = Pace()
CAREFUL = Pace(1, PAUSE_RATIO_MIN)  # if the load is not known


@dataclass(frozen=True, slots=True)
class Probe:
    """`delay_ms`: how late the server's process woke up. `transactions`: the next transaction ID of the
    server. `sessions`: other sessions that execute a statement, as far as this role sees them."""

    at_seconds: float
    delay_ms: float
    transactions: int
    sessions: int


def others_work(probes: Sequence[Probe]) -> bool:
    """Whether other sessions use the server: they execute statements or write."""
    if len(probes) < 2:
        return False
    seconds = max(probes[-1].at_seconds - probes[0].at_seconds, 1e-3)
    per_second = (probes[-1].transactions - probes[0].transactions) / seconds
    sessions = sum(probe.sessions for probe in probes) / len(probes)
    return sessions >= ACTIVE_SESSIONS_MIN or per_second >= TRANSACTIONS_PER_SECOND_MIN


def delay_ms(probes: Sequence[Probe]) -> float:
    """The 90th percentile of the delays: a median does not show that some statements wait."""
    delays = sorted(probe.delay_ms for probe in probes)
    return delays[int(0.9 * (len(delays) - 1))] if delays else 0.0


def next_pace(now: Pace, probes: Sequence[Probe], alone: Sequence[Probe]) -> Pace:
    """The pace after the newest `probes`, in the order of their times. `alone`: probes while the copy did not
    work."""
    if not others_work(probes):
        return FULL_SPEED
    is_slow = delay_ms(probes) > SLOWER_RATIO * delay_ms(alone) + RESOLUTION_MS
    ratio = max(now.pause_ratio, PAUSE_RATIO_MIN) * (SLOW_DOWN if is_slow else SPEED_UP)
    return Pace(1, min(max(ratio, PAUSE_RATIO_MIN), PAUSE_RATIO_MAX))
