"""The drill with Patroni, which promotes the standby: no acknowledged request is lost."""

import time
from collections.abc import Callable, Iterator

import pytest
from patroni_pair import PatroniPair, leads, patroni_pair, wait_until

from oltp.audit import audit
from oltp.drill.clients import ClientLog, reconcile, running_workload
from oltp.drill.failover import prepare_store
from oltp.retry import RetryPolicy
from oltp.store import open_database

# A failed leader is detected when its key in etcd expires, after at least 20 s.
POLICY = RetryPolicy(seconds_max=90.0, tries_max=10_000)
ROUNDS = 2


@pytest.fixture
def pair() -> Iterator[PatroniPair]:
    with patroni_pair() as pair:
        yield pair


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_failover_by_patroni_loses_nothing_acknowledged(
    pair: PatroniPair, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
):
    prepare_store(pair.member("leader").conninfo)
    store = open_database(pair.dsn)
    with running_workload(store, clients=8, seed=1, policy=POLICY) as log:
        lines = [fail_over_once(pair, log) for _ in range(ROUNDS)]
    with store.connect() as connection:
        found, checked = reconcile(connection, log), audit(connection)
    lines.append(
        f"{found.acknowledged:,} acknowledged, {len(found.lost)} lost, {len(found.doubled)} doubled, "
        f"{found.in_doubt} in doubt, {found.settled} settled; {checked.verdict}"
    )
    record_property("patroni", lines)
    with capsys.disabled():
        print("", *lines, sep="\n  ")
    assert found.acknowledged > 100
    assert found.nothing_lost
    assert checked.passed


def fail_over_once(pair: PatroniPair, log: ClientLog) -> str:
    time.sleep(1.0)
    leader, standby = pair.member("leader"), pair.member("sync_standby")
    began = time.perf_counter()
    time.sleep(0.5)
    killed = time.perf_counter()
    leader.kill()
    wait_until(lambda: leads(standby), "the standby was not promoted")
    promoted = time.perf_counter()
    wait_until(lambda: bool(log.answers_since(promoted)), "no request was answered")
    time.sleep(1.0)
    gap = log.longest_gap_seconds(began, time.perf_counter())
    leader.start()  # Patroni rejoins it as the standby, with pg_rewind
    assert pair.member("sync_standby") is leader
    return f"{standby.name} promoted after {promoted - killed:.1f} s, longest gap {gap:.1f} s"
