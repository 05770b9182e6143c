"""The drills, from the first server to the last audit, and their results.

`run_drill` kills the primary. `drill_standby` kills the standby, with both possible settings:

    block      no commit returns: everything acknowledged is on two disks
    degrade    commits do not wait: bookings continue, and are on one disk until a standby is back

Postgres blocks by default. To degrade, remove the standby from `synchronous_standby_names`, as Patroni does
in `synchronous_mode` without `synchronous_mode_strict`.

If pg_cancel_backend cancels the wait of a commit, the commit returns as usual, with a warning. It must not
count as acknowledged: the client sends the request again and waits until the standby has it (`oltp.pool`).
"""

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

import psutil
from psycopg.conninfo import make_conninfo

from oltp.audit import AuditReport, audit
from oltp.cluster.node import ServerNode, wait_until
from oltp.drill.clients import ClientLog, ReconcileResult, reconcile, running_workload
from oltp.drill.pair import DATABASE, ServerPair, Watchdog, open_pair
from oltp.ingest.seed import seed_rides
from oltp.retry import UNREPLICATED
from oltp.store import ensure_database, open_database
from ridelake.errors import CannotConnect

LOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class FailoverResult:
    """One failover. `hung`: the failure detector declared the primary dead before the kill, because it did
    not answer in time. `noticed_seconds`: from the kill to the detection. `promoted_seconds`: from the
    detection until the standby accepts writes. `longest_gap_seconds`: between two acknowledgements to any
    client. `rejoined_seconds`: from the start of the rewind until commits wait for the server again."""

    number: int
    killed: str
    hung: bool
    promoted: str
    acknowledged: int
    noticed_seconds: float
    promoted_seconds: float
    longest_gap_seconds: float
    rejoined_seconds: float

    def line(self) -> str:
        hung = f"{self.killed} hung, and was killed"
        killed = f"{self.killed} killed, noticed after {self.noticed_seconds:.2f} s"
        return (
            f"round {self.number}: {hung if self.hung else killed}, {self.promoted} promoted in "
            f"{self.promoted_seconds:.2f} s; longest gap {self.longest_gap_seconds:.2f} s; {self.killed} "
            f"rejoined in {self.rejoined_seconds:.1f} s; {self.acknowledged:,} acknowledged"
        )


@dataclass(frozen=True, slots=True)
class DrillResult:
    rounds: tuple[FailoverResult, ...]
    findings: ReconcileResult
    audit: AuditReport
    clients: int
    seed: int
    synchronous: bool
    lag_seconds: float | None  # of an asynchronous standby when its primary is killed; None if synchronous
    seconds: float

    @property
    def longest_gap_seconds_median(self) -> float:
        return median(one.longest_gap_seconds for one in self.rounds)

    @property
    def passed(self) -> bool:
        """Nothing lost, doubled or left in doubt, and the audit passed."""
        return self.findings.nothing_lost and self.audit.passed

    @property
    def as_promised(self) -> bool:
        """As `passed`, but with an asynchronous standby commits may be lost."""
        return self.passed or (not self.synchronous and self.findings.nothing_doubled and self.audit.passed)

    def as_dict(self) -> dict[str, Any]:
        found = self.findings
        return {
            "passed": self.passed,
            "standby": "synchronous" if self.synchronous else "asynchronous",
            "lag_seconds": self.lag_seconds,
            "acknowledged": found.acknowledged,
            "rides_ended": found.rides_ended,
            "lost": len(found.lost),
            "lost_ids": found.lost,
            "ends_lost": len(found.undone),
            "doubled": len(found.doubled),
            "in_doubt": found.in_doubt,
            "settled": found.settled,
            "longest_gap_seconds_median": self.longest_gap_seconds_median,
            "longest_gap_seconds_max": max(one.longest_gap_seconds for one in self.rounds),
            "noticed_seconds_median": median(one.noticed_seconds for one in self.rounds),
            "promoted_seconds_median": median(one.promoted_seconds for one in self.rounds),
            "rounds": [asdict(one) for one in self.rounds],
            "clients": self.clients,
            "seed": self.seed,
            "seconds": self.seconds,
            "audit": self.audit.as_dict(),
        }

    def lines(self) -> list[str]:
        found = self.findings
        standby = (
            "synchronous standby"
            if self.lag_seconds is None
            else f"asynchronous standby, {self.lag_seconds:.1f} s behind"
        )
        failovers = "failover" if len(self.rounds) == 1 else "failovers"
        longest = max(one.longest_gap_seconds for one in self.rounds)
        lines = [
            f"{len(self.rounds)} {failovers}, {standby}, {self.clients} clients, {self.seconds:.0f} s, "
            f"seed {self.seed}",
            f"{found.acknowledged:,} decisions and {found.rides_ended:,} ends of rides acknowledged: "
            f"{len(found.lost):,} decisions lost, {len(found.undone):,} ends lost, "
            f"{len(found.doubled):,} doubled",
            f"{found.in_doubt:,} in doubt, {found.settled:,} of them settled by sending the id again",
            f"longest gap between acknowledgements: {self.longest_gap_seconds_median:.2f} s (median), "
            f"{longest:.2f} s (max)",
        ]
        if found.lost:
            shown = ", ".join(str(id_) for id_ in found.lost[:LOST_SHOWN])
            lines.append(f"lost: {shown}" + (" …" if len(found.lost) > LOST_SHOWN else ""))
        return lines


PAST_RIDES = 4_000  # seeded rides, which create riders and drivers
ENOUGH_CENTS = 100_000_000  # the balance of each rider, so that no payment is declined
LOAD_SECONDS = (0.3, 1.0)  # before the kill, drawn at random, so that it can occur at any point of a booking
LOAD_AFTER_FAILOVER_SECONDS = (
    0.3  # the time of load on the new primary alone, before the other server rejoins
)
PROMOTION_SECONDS_MAX = 60.0
# With --async, the lag of the standby when its primary is killed. On one machine it would be microseconds;
# between two machines it depends on the network and the other disk.
LAG_SECONDS = 0.1


def run_drill(
    *,
    rounds: int = 3,
    clients: int = 8,
    seed: int = 1,
    synchronous: bool = True,
    show: Callable[[FailoverResult], None] = lambda round_: None,
) -> DrillResult:
    """`rounds` times: load, kill the primary, promote the standby, rejoin the old primary. Then compare and
    audit. Ctrl-C ends it immediately and removes the servers.

    Raises CannotConnect if a server does not start, follow or get promoted."""
    dice = random.Random(seed)
    began = perf_counter()
    with open_pair(synchronous=synchronous, prepare=prepare_store) as pair:
        store = open_database(pair.dsn)
        with running_workload(store, clients, seed) as log:
            done = []
            for number in range(1, rounds + 1):
                done.append(_round(number, pair, log, dice.uniform(*LOAD_SECONDS)))
                show(done[-1])
            time.sleep(LOAD_AFTER_FAILOVER_SECONDS)
        with store.connect() as connection:
            return DrillResult(
                rounds=tuple(done),
                findings=reconcile(connection, log),
                audit=audit(connection),
                clients=clients,
                seed=seed,
                synchronous=synchronous,
                lag_seconds=None if synchronous else LAG_SECONDS,
                seconds=perf_counter() - began,
            )


def prepare_store(conninfo: str) -> None:
    """Create a store with riders and drivers on the primary."""
    ensure_database(conninfo, DATABASE)
    store = open_database(make_conninfo(conninfo, dbname=DATABASE))
    seed_rides(store, PAST_RIDES, seed=1)
    with store.connect() as connection:
        connection.execute("SELECT top_up(rider_id, %s) FROM riders", (ENOUGH_CENTS,))


def _round(number: int, pair: ServerPair, log: ClientLog, load_seconds: float) -> FailoverResult:
    before, began = log.acknowledged, perf_counter()
    victim = pair.primary  # if it hangs, the watchdog may exchange the roles before the kill
    watchdog = Watchdog(pair)
    try:
        time.sleep(load_seconds)
        if not pair.synchronous:
            _hold_back(victim)
        killed = perf_counter()
        victim.kill()
        promotion = watchdog.wait(PROMOTION_SECONDS_MAX)
    finally:
        watchdog.close()
    if promotion is None:
        raise CannotConnect(f"the standby was not promoted in {PROMOTION_SECONDS_MAX:.0f} s")
    time.sleep(LOAD_AFTER_FAILOVER_SECONDS)
    left = perf_counter()
    pair.rejoin()
    over = perf_counter()
    return FailoverResult(
        number=number,
        killed=victim.name,
        promoted=pair.primary.name,
        acknowledged=log.acknowledged - before,
        hung=promotion.noticed < killed,
        noticed_seconds=max(0.0, promotion.noticed - killed),
        promoted_seconds=promotion.promoted - promotion.noticed,
        longest_gap_seconds=log.longest_gap_seconds(began, over),
        rejoined_seconds=over - left,
    )


def _hold_back(primary: ServerNode) -> None:
    """Let the standby fall behind: stop the WAL sender processes, as a slow network would. A later SIGKILL
    also ends stopped processes."""
    with primary.connect() as connection:
        senders = connection.execute("SELECT pid FROM pg_stat_replication").fetchall()
    for (pid,) in senders:
        psutil.Process(pid).suspend()
    time.sleep(LAG_SECONDS)


STANDBY_LOAD_SECONDS = 0.5
BLOCKED_SECONDS = 2.0
IN_FLIGHT_SECONDS = 0.25  # commits that the standby had confirmed before the kill still return
CANCEL = b"""
    SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' ORDER BY pid LIMIT 1"""
WAITING = b"SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@dataclass(frozen=True, slots=True)
class StandbyFailureResult:
    """`answered_while_blocked`: commits that returned without a standby; must be 0. `waiting`: commits that
    waited. `cancelled_waits`: waits that were cancelled; `retried`: cancelled waits that clients retried."""

    blocked_seconds: float
    answered_while_blocked: int
    waiting: int
    cancelled_waits: int
    retried: int
    resumed_seconds: float  # from the change of the setting to the first answer
    answered_unprotected: int
    protected_again_seconds: float
    findings: ReconcileResult
    audit: AuditReport

    @property
    def passed(self) -> bool:
        return (
            self.answered_while_blocked == 0
            and self.retried >= self.cancelled_waits
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
            f"{self.cancelled_waits:,} wait cancelled by pg_cancel_backend: {self.retried:,} retried by the "
            "client, which waited again",
            f"degraded: commits return {self.resumed_seconds:.2f} s after synchronous_standby_names was "
            f"cleared; {self.answered_unprotected:,} acknowledged on one disk only",
            f"standby back: caught up and synchronous after {self.protected_again_seconds:.1f} s",
            f"{found.acknowledged:,} decisions acknowledged: {len(found.lost):,} lost, "
            f"{len(found.doubled):,} doubled, {found.in_doubt:,} in doubt and {found.settled:,} settled",
        ]


def drill_standby(*, clients: int = 8, seed: int = 1) -> StandbyFailureResult:
    """Kill the standby under load; block, degrade, and wait for it again. Raises the errors of
    `run_drill`."""
    with open_pair(synchronous=True, prepare=prepare_store) as pair:
        store = open_database(pair.dsn)
        with running_workload(store, clients, seed) as log:
            time.sleep(STANDBY_LOAD_SECONDS)
            pair.standby.kill()
            killed = perf_counter()
            time.sleep(BLOCKED_SECONDS / 2)
            waiting, cancelled_waits = _cancel_one_wait(pair)
            time.sleep(BLOCKED_SECONDS / 2)
            answered = len(log.answers_since(killed + IN_FLIGHT_SECONDS))
            blocked_seconds = perf_counter() - killed

            degraded = perf_counter()
            pair.degrade()
            wait_until(lambda: bool(log.answers_since(degraded)), "no commit returned", 0.005)
            time.sleep(STANDBY_LOAD_SECONDS)
            unprotected, again = log.answers_since(degraded), perf_counter()
            pair.follow()
            protected_again_seconds = perf_counter() - again
            time.sleep(STANDBY_LOAD_SECONDS)
        with store.connect() as connection:
            return StandbyFailureResult(
                blocked_seconds=blocked_seconds,
                answered_while_blocked=answered,
                waiting=waiting,
                cancelled_waits=cancelled_waits,
                retried=_retried_waits(log),
                resumed_seconds=unprotected[0] - degraded,
                answered_unprotected=len(unprotected),
                protected_again_seconds=protected_again_seconds,
                findings=reconcile(connection, log),
                audit=audit(connection),
            )


def _cancel_one_wait(pair: ServerPair) -> tuple[int, int]:
    """The number of waiting commits, and the number of cancelled ones (1)."""
    with pair.primary.connect() as connection:
        row = connection.execute(WAITING).fetchone()
        assert row is not None, "a count returns one row"
        return row[0], len(connection.execute(CANCEL).fetchall())


def _retried_waits(log: ClientLog) -> int:
    return log.retries.by_reason[UNREPLICATED]
