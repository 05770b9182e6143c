"""How fresh an answer is: the age of the oldest change that it should have seen and did not.

A question is asked at t of a copy with a token. Of all that had committed before t, what the token has not
seen is missing; the oldest of it decides. Nothing missing is age 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse.epoch import Token


@dataclass(frozen=True, slots=True)
class Commit:
    """The transaction's number, and when its client had the answer, in seconds of the monotonic clock."""

    tx: int
    at: float


class History:
    """Commits of all clients."""

    def __init__(self, commits: Sequence[Commit]) -> None:
        self._commits = sorted(commits, key=lambda commit: commit.at)
        self._oldest: dict[str, float] = {}  # first commit that a token has not seen, by its snapshot

    def age_seconds(self, asked_at: float, token: Token) -> float:
        """Of an answer over the state that `token` stands for."""
        if token.snapshot not in self._oldest:
            unseen = (commit.at for commit in self._commits if not token.has_seen(commit.tx))
            self._oldest[token.snapshot] = next(unseen, math.inf)
        return max(0.0, asked_at - self._oldest[token.snapshot])


def nearest_rank(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` in 100 do not exceed. `values` must not be empty."""
    return sorted(values)[max(0, math.ceil(percent * len(values) / 100) - 1)]
