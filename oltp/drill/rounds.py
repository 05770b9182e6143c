"""The drill that kills the primary: from the start of the servers to the audit."""

import random
import time
from collections.abc import Callable
from time import perf_counter

import psutil
from psycopg.conninfo import make_conninfo

from oltp.audit import audit
from oltp.drill.clients import Told, clients_at_work
from oltp.drill.findings import compare
from oltp.drill.node import Node
from oltp.drill.pair import DATABASE, Pair, open_pair
from oltp.drill.result import Drilled, Round
from oltp.drill.watch import Watchdog
from oltp.seed import seed_rides
from oltp.store import ensure_database, open_database
from ridelake.errors import CannotConnect

PAST_RIDES = 4_000  # provide riders and drivers
ENOUGH_CENTS = 100_000_000  # for each rider, so that no payment is declined
LOAD_SECONDS = (0.3, 1.0)  # before the kill, drawn at random, so that it hits any moment of a booking
AFTER_SECONDS = 0.3  # of load on the new primary alone, before the other server rejoins
PROMOTION_SECONDS_MAX = 60.0
# With --async, the lag of the standby when its primary is killed. On one machine it would be microseconds;
# between two machines it depends on the network and the other disk.
LAG_SECONDS = 0.1


def drill(
    *,
    rounds: int = 3,
    clients: int = 8,
    seed: int = 1,
    synchronous: bool = True,
    show: Callable[[Round], None] = lambda round_: None,
) -> Drilled:
    """`rounds` times: load, kill the primary, promote the standby, rejoin the old primary. Then compare and
    audit. Ctrl-C ends it immediately and removes the servers.

    Raises CannotConnect if a server does not start, follow or get promoted."""
    dice = random.Random(seed)
    began = perf_counter()
    with open_pair(synchronous=synchronous, prepare=prepare) as pair:
        store = open_database(pair.dsn)
        with clients_at_work(store, clients, seed) as log:
            done = []
            for number in range(1, rounds + 1):
                done.append(_round(number, pair, log, dice.uniform(*LOAD_SECONDS)))
                show(done[-1])
            time.sleep(AFTER_SECONDS)
        with store.connect() as connection:
            return Drilled(
                rounds=tuple(done),
                findings=compare(connection, log),
                audit=audit(connection),
                clients=clients,
                seed=seed,
                synchronous=synchronous,
                lag_seconds=None if synchronous else LAG_SECONDS,
                seconds=perf_counter() - began,
            )


def prepare(conninfo: str) -> None:
    """Create a store with riders and drivers on the primary."""
    ensure_database(conninfo, DATABASE)
    store = open_database(make_conninfo(conninfo, dbname=DATABASE))
    seed_rides(store, PAST_RIDES, seed=1)
    with store.connect() as connection:
        connection.execute("SELECT top_up(rider_id, %s) FROM riders", (ENOUGH_CENTS,))


def _round(number: int, pair: Pair, log: Told, load_seconds: float) -> Round:
    before, began = log.acknowledged, perf_counter()
    victim = pair.primary  # remembered: if it hangs, the watchdog may exchange the roles before the kill
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
    time.sleep(AFTER_SECONDS)
    left = perf_counter()
    pair.rejoin()
    over = perf_counter()
    return Round(
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


def _hold_back(primary: Node) -> None:
    """Let the standby fall behind: stop the WAL sender processes, as a slow network would. A later SIGKILL
    also ends stopped processes."""
    with primary.connect() as connection:
        senders = connection.execute("SELECT pid FROM pg_stat_replication").fetchall()
    for (pid,) in senders:
        psutil.Process(pid).suspend()
    time.sleep(LAG_SECONDS)
