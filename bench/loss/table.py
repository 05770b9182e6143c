"""The loss table: the final copy of each rule compared with the table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.loss.clients import Copy, Poller
from bench.loss.rules import OURS


@dataclass(frozen=True, slots=True)
class CopyDifference:
    """The differences of a copy from the table, row by row."""

    missing: int  # in the table, not in the copy
    outdated: int  # in both, but not in the same version
    kept: int  # in the copy, though deleted from the table

    @property
    def lost(self) -> int:
        return self.missing + self.outdated


def compare(copy: Mapping[int, str], truth: Mapping[int, str]) -> CopyDifference:
    return CopyDifference(
        missing=len(truth.keys() - copy.keys()),
        outdated=sum(copy[id_] != truth[id_] for id_ in truth.keys() & copy.keys()),
        kept=len(copy.keys() - truth.keys()),
    )


@dataclass(frozen=True, slots=True)
class RuleLoss:
    """One line of the table. A lag is the time from the end of the COMMIT until the poller read the version;
    versions that were never read have none."""

    rule: str
    condition: str
    loses: bool  # whether the rule can lose rows, not whether it did
    lost: int
    lost_share: float  # of the rows in the table
    missing: int
    outdated: int
    kept: int
    doubled: int
    polls: int
    lag_ms_p50: float
    lag_ms_p99: float

    @property
    def equal(self) -> bool:
        """Whether the copy equals the table and no version was read twice."""
        return self.lost == self.kept == self.doubled == 0


@dataclass(frozen=True, slots=True)
class LossTable:
    rules: tuple[RuleLoss, ...]
    rows: int  # in the table at the end
    versions: int  # committed
    transactions: int
    long_transactions: int
    writers: int
    poll_seconds: float
    seconds: float  # of writing
    seed: int
    server_version: int

    def __getitem__(self, rule: str) -> RuleLoss:
        return next(line for line in self.rules if line.rule == rule)

    @property
    def ours(self) -> RuleLoss:
        return self[OURS.name]

    @property
    def void(self) -> str | None:
        """Why the run proves nothing, or None. Each rule that can lose rows must have missed one. Old
        versions do not count, because `id` never sees updates."""
        without_loss = [line.rule for line in self.rules if line.loses and not line.missing]
        if not without_loss:
            return None
        return (
            f"{' and '.join(without_loss)} missed no row in {self.seconds:.0f} s with {self.writers} "
            "writers; the load is too low on this machine to compare the rules"
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "void": self.void}


def line_of(poller: Poller, truth: Mapping[int, str], committed: Mapping[str, float]) -> RuleLoss:
    """The line of one poller. `committed` has the commit time of each version."""
    found = compare(poller.copy.rows, truth)
    p50, p99 = lag_ms(poller.copy, committed)
    return RuleLoss(
        rule=poller.rule.name,
        condition=poller.rule.condition,
        loses=poller.rule.loses,
        lost=found.lost,
        lost_share=found.lost / max(len(truth), 1),
        missing=found.missing,
        outdated=found.outdated,
        kept=found.kept,
        doubled=poller.copy.doubled,
        polls=poller.polls,
        lag_ms_p50=p50,
        lag_ms_p99=p99,
    )


def lag_ms(copy: Copy, committed: Mapping[str, float]) -> tuple[float, float]:
    """p50 and p99. A row that is read before its writer receives the end of the COMMIT has a lag of 0. Raises
    KeyError for a version that was not committed."""
    lags = [max(0.0, at - committed[payload]) * 1000 for payload, at in copy.arrived.items()]
    if not lags:
        return 0.0, 0.0
    return float(np.percentile(lags, 50)), float(np.percentile(lags, 99))
