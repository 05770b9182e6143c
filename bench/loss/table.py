"""The loss table: what each rule had in the end, beside what it should have had."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.loss.poller import Copy, Poller
from bench.loss.rules import OURS


@dataclass(frozen=True, slots=True)
class Finding:
    """A copy beside the table, row by row."""

    missing: int  # in the table, not in the copy
    outdated: int  # in both, but not in the same version
    kept: int  # in the copy, though deleted from the table

    @property
    def lost(self) -> int:
        return self.missing + self.outdated


def compare(copy: Mapping[int, str], truth: Mapping[int, str]) -> Finding:
    return Finding(
        missing=len(truth.keys() - copy.keys()),
        outdated=sum(copy[id_] != truth[id_] for id_ in truth.keys() & copy.keys()),
        kept=len(copy.keys() - truth.keys()),
    )


@dataclass(frozen=True, slots=True)
class RuleLoss:
    """One line of the table. A lag is from the return of a COMMIT to the moment the poller had the version;
    of the versions that came at all."""

    rule: str
    says: str
    loses: bool  # as it is said of the rule, not as it was seen
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
        """The copy is the table, and nothing came twice."""
        return self.lost == self.kept == self.doubled == 0


@dataclass(frozen=True, slots=True)
class LossTable:
    rules: tuple[RuleLoss, ...]
    rows: int  # in the table, in the end
    versions: int  # committed
    transactions: int
    long_transactions: int
    writers: int
    poll_seconds: float
    seconds: float  # in which there was writing
    seed: int
    server_version: int

    def __getitem__(self, rule: str) -> RuleLoss:
        return next(line for line in self.rules if line.rule == rule)

    @property
    def ours(self) -> RuleLoss:
        return self[OURS.name]

    @property
    def void(self) -> str | None:
        """Why this run proves nothing, if it does not: a rule that loses rows must be seen to lose one that
        it never had. Old versions do not count, for `id` cannot see an update at all."""
        lucky = [line.rule for line in self.rules if line.loses and not line.missing]
        if not lucky:
            return None
        return (
            f"{' and '.join(lucky)} missed no row in {self.seconds:.0f} s of {self.writers} writers: "
            "these writers are not hard enough on this machine, and that we lost none says nothing"
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "void": self.void}


def line_of(poller: Poller, truth: Mapping[int, str], committed: Mapping[str, float]) -> RuleLoss:
    """What became of one poller. `committed` says when each version was."""
    found = compare(poller.copy.rows, truth)
    p50, p99 = lag_ms(poller.copy, committed)
    return RuleLoss(
        rule=poller.rule.name,
        says=poller.rule.says,
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
    """p50 and p99. Whoever reads a row before its writer hears of the COMMIT has no lag; a KeyError is a
    version that nobody committed."""
    lags = [max(0.0, at - committed[payload]) * 1000 for payload, at in copy.arrived.items()]
    if not lags:
        return 0.0, 0.0
    return float(np.percentile(lags, 50)), float(np.percentile(lags, 99))
