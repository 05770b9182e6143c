"""The drill that kills the standby.

    block      no commit returns: everything acknowledged is on two disks
    degrade    commits do not wait: bookings continue, and are on one disk until a standby is back

Postgres blocks by default. To degrade, remove the standby from `synchronous_standby_names`, as Patroni does
in `synchronous_mode` without `synchronous_mode_strict`. This drill shows both.

If pg_cancel_backend cancels the wait of a commit, the commit returns as usual, with a warning. It must not
count as acknowledged: the client sends the request again and waits until the standby has it (`oltp.pool`).
"""

import time
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from oltp.audit import AuditReport, audit
from oltp.cluster.node import wait_until
from oltp.drill.clients import ClientLog, ReconcileResult, reconcile, running_workload
from oltp.drill.failover import prepare_store
from oltp.drill.pair import ServerPair, open_pair
from oltp.retry import UNREPLICATED
from oltp.store import open_database

LOAD_SECONDS = 0.5
BLOCKED_SECONDS = 2.0
ON_ITS_WAY_SECONDS = 0.25  # commits that the standby had confirmed before the kill still return
CANCEL = b"""
    SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' ORDER BY pid LIMIT 1"""
WAITING = b"SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@dataclass(frozen=True, slots=True)
class StandbyFailureResult:
    """`answered_while_blocked`: commits that returned without a standby; must be 0. `waiting`: commits that
    waited. `broken_off`: waits that were cancelled; `doubted`: those of them that clients retried."""

    blocked_seconds: float
    answered_while_blocked: int
    waiting: int
    broken_off: int
    doubted: int
    resumed_seconds: float  # from the change of the setting to the first answer
    answered_unprotected: int
    protected_again_seconds: float
    findings: ReconcileResult
    audit: AuditReport

    @property
    def passed(self) -> bool:
        return (
            self.answered_while_blocked == 0
            and self.doubted >= self.broken_off
            and self.findings.nothing_lost
            and self.audit.passed
        )

    @property
    def as_promised(self) -> bool:
        return self.passed

    def as_dict(self) -> dict[str, Any]:
        found = self.findings
        of_findings = {
            "acknowledged": found.acknowledged,
            "lost": len(found.lost),
            "doubled": len(found.doubled),
            "in_doubt": found.in_doubt,
            "settled": found.settled,
        }
        report = {"passed": self.passed} | asdict(self)
        return report | {"findings": of_findings, "audit": self.audit.as_dict()}

    def lines(self) -> list[str]:
        found = self.findings
        return [
            f"standby killed, commits block: {self.answered_while_blocked:,} returned in "
            f"{self.blocked_seconds:.1f} s, {self.waiting:,} waiting",
            f"{self.broken_off:,} wait cancelled by pg_cancel_backend: {self.doubted:,} retried by the "
            "client, "
            "which waited again",
            f"degraded: commits return {self.resumed_seconds:.2f} s after synchronous_standby_names was "
            f"cleared; {self.answered_unprotected:,} acknowledged on one disk only",
            f"standby back: caught up and synchronous after {self.protected_again_seconds:.1f} s",
            f"{found.acknowledged:,} decisions acknowledged: {len(found.lost):,} lost, "
            f"{len(found.doubled):,} doubled, {found.in_doubt:,} in doubt and {found.settled:,} settled",
        ]


def drill_standby(*, clients: int = 8, seed: int = 1) -> StandbyFailureResult:
    """Kill the standby under load; block, degrade, and wait for it again. Raises the errors of
    `rounds.drill`."""
    with open_pair(synchronous=True, prepare=prepare_store) as pair:
        store = open_database(pair.dsn)
        with running_workload(store, clients, seed) as log:
            time.sleep(LOAD_SECONDS)
            pair.standby.kill()
            killed = perf_counter()
            time.sleep(BLOCKED_SECONDS / 2)
            waiting, broken_off = _break_one_off(pair)
            time.sleep(BLOCKED_SECONDS / 2)
            answered = len(log.answers_since(killed + ON_ITS_WAY_SECONDS))
            blocked_seconds = perf_counter() - killed

            degraded = perf_counter()
            pair.degrade()
            wait_until(lambda: bool(log.answers_since(degraded)), "no commit returned", 0.005)
            time.sleep(LOAD_SECONDS)
            unprotected, again = log.answers_since(degraded), perf_counter()
            pair.follow()
            protected_again_seconds = perf_counter() - again
            time.sleep(LOAD_SECONDS)
        with store.connect() as connection:
            return StandbyFailureResult(
                blocked_seconds=blocked_seconds,
                answered_while_blocked=answered,
                waiting=waiting,
                broken_off=broken_off,
                doubted=_doubted(log),
                resumed_seconds=unprotected[0] - degraded,
                answered_unprotected=len(unprotected),
                protected_again_seconds=protected_again_seconds,
                findings=reconcile(connection, log),
                audit=audit(connection),
            )


def _break_one_off(pair: ServerPair) -> tuple[int, int]:
    """The number of waiting commits, and of those that were cancelled (one)."""
    with pair.primary.connect() as connection:
        row = connection.execute(WAITING).fetchone()
        assert row is not None, "a count returns one row"
        return row[0], len(connection.execute(CANCEL).fetchall())


def _doubted(log: ClientLog) -> int:
    return log.retries.by_reason[UNREPLICATED]
