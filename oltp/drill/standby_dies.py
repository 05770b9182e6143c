"""The other half of the question: the standby dies, and the primary is well.

    blocking     no commit is answered: what is acknowledged is on two disks, always
    degrading    commits wait for nobody any more: rides go on, and are on one disk until a standby is back

Postgres blocks, for ever. Who wants the other takes the standby off `synchronous_standby_names`, as Patroni
does in `synchronous_mode` without `synchronous_mode_strict`. Here one run shows both.

A wait that is broken off by hand (pg_cancel_backend) is answered as if all were well, but for a warning. Such
an answer must not be counted: the client asks again, and waits until the standby has it (`oltp.pool`).
"""

import time
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from oltp.audit import AuditReport, audit
from oltp.drill.clients import Told, clients_at_work
from oltp.drill.findings import Findings, compare
from oltp.drill.folder import wait_until
from oltp.drill.pair import Pair, open_pair
from oltp.drill.rounds import prepare
from oltp.retry import UNREPLICATED
from oltp.store import open_database

LOAD_SECONDS = 0.5
BLOCKED_SECONDS = 2.0
ON_ITS_WAY_SECONDS = 0.25  # what the standby had confirmed before it died is still answered
CANCEL = b"""
    SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' ORDER BY pid LIMIT 1"""
WAITING = b"SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@dataclass(frozen=True, slots=True)
class StandbyDied:
    """`answered_while_blocked`: must be 0. `waiting`: commits that were held back then. `broken_off`: waits
    that were cancelled by hand, and `doubted`: those that the clients did not take for an answer."""

    blocked_seconds: float
    answered_while_blocked: int
    waiting: int
    broken_off: int
    doubted: int
    resumed_seconds: float  # from the change of the setting to the first answer
    answered_unprotected: int
    protected_again_seconds: float
    findings: Findings
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
            f"standby killed. Blocking: in {self.blocked_seconds:.1f} s {self.answered_while_blocked:,} "
            f"commits answered, {self.waiting:,} held back",
            f"{self.broken_off:,} wait broken off by hand: the answer that came was doubted by the client "
            f"({self.doubted:,}), which asked again and waited",
            f"degraded: answers again {self.resumed_seconds:.2f} s after synchronous_standby_names was "
            f"emptied; {self.answered_unprotected:,} acknowledged on one disk alone",
            f"standby back: it has all, and is awaited, after {self.protected_again_seconds:.1f} s",
            f"{found.acknowledged:,} decisions acknowledged: {len(found.lost):,} lost, "
            f"{len(found.doubled):,} doubled, {found.in_doubt:,} in doubt and {found.settled:,} settled",
        ]


def standby_dies(*, clients: int = 8, seed: int = 1) -> StandbyDied:
    """Kill the standby under load; block, degrade, and protect again. Raises as `rounds.drill` does."""
    with open_pair(synchronous=True, prepare=prepare) as pair:
        store = open_database(pair.dsn)
        with clients_at_work(store, clients, seed) as told:
            time.sleep(LOAD_SECONDS)
            pair.standby.kill()
            killed = perf_counter()
            time.sleep(BLOCKED_SECONDS / 2)
            waiting, broken_off = _break_one_off(pair)
            time.sleep(BLOCKED_SECONDS / 2)
            answered = len(told.answers_since(killed + ON_ITS_WAY_SECONDS))
            blocked_seconds = perf_counter() - killed

            degraded = perf_counter()
            pair.degrade()
            wait_until(lambda: bool(told.answers_since(degraded)), "nobody is answered", 0.005)
            time.sleep(LOAD_SECONDS)
            unprotected, again = told.answers_since(degraded), perf_counter()
            pair.follow()
            protected_again_seconds = perf_counter() - again
            time.sleep(LOAD_SECONDS)
        with store.connect() as connection:
            return StandbyDied(
                blocked_seconds=blocked_seconds,
                answered_while_blocked=answered,
                waiting=waiting,
                broken_off=broken_off,
                doubted=_doubted(told),
                resumed_seconds=unprotected[0] - degraded,
                answered_unprotected=len(unprotected),
                protected_again_seconds=protected_again_seconds,
                findings=compare(connection, told),
                audit=audit(connection),
            )


def _break_one_off(pair: Pair) -> tuple[int, int]:
    """How many commits wait, and how many of them were cancelled: one."""
    with pair.primary.connect() as connection:
        row = connection.execute(WAITING).fetchone()
        assert row is not None, "a count always answers"
        return row[0], len(connection.execute(CANCEL).fetchall())


def _doubted(told: Told) -> int:
    return told.retries.by_reason[UNREPLICATED]
