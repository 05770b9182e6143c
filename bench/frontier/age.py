"""Freshness of an answer: the age of the oldest committed change that it did not see.

A query at time t reads a copy with a token. Changes that committed before t and that the token has not seen
are missing. The age is t minus the commit time of the oldest one, or 0 if none is missing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.epoch import Token


@dataclass(frozen=True, slots=True)
class Commit:
    """The number of a transaction, and the time when its client received the answer (monotonic seconds)."""

    tx: int
    at: float


class History:
    """The commits of all clients."""

    def __init__(self, commits: Sequence[Commit]) -> None:
        self._commits = sorted(commits, key=lambda commit: commit.at)
        self._oldest: dict[str, float] = {}  # first commit that a token has not seen, by its snapshot

    def age_seconds(self, asked_at: float, token: Token) -> float:
        """The age of an answer over the state of `token`."""
        if token.snapshot not in self._oldest:
            unseen = (commit.at for commit in self._commits if not token.has_seen(commit.tx))
            self._oldest[token.snapshot] = next(unseen, math.inf)
        return max(0.0, asked_at - self._oldest[token.snapshot])


def nearest_rank(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` in 100 do not exceed. `values` must not be empty."""
    return sorted(values)[max(0, math.ceil(percent * len(values) / 100) - 1)]
