"""A failover as seen by a client: its requests continue on the promoted server."""

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lakehouse.capture.publish import publish_changes, publish_snapshot
from lakehouse.source.snapshot import history_contains, read_forks
from lakehouse.table.catalog import Lake
from lakehouse.verify import verify_now
from oltp import booking
from oltp.cluster.node import wait_until
from oltp.drill.failover import prepare_store
from oltp.drill.pair import ServerPair, open_pair, open_standby
from oltp.pool import RetryPool
from oltp.retry import (
    STANDBY,
    UNREPLICATED,
    RetryCounts,
    RetryPolicy,
    outcome_unknown_after,
    retry,
    retry_reason,
)
from oltp.store import Store, open_database
from oltp.workload import draw_requests, riders_by_city
from ridelake.errors import NotReplicated, UsageError
from ridelake.ride import Outcome, RideRequest
from ridelake.settings import LakeAddress


@pytest.fixture(scope="module")
def shared_pair() -> Iterator[ServerPair]:
    """Two servers for all tests without a failover."""
    with open_pair(synchronous=True, prepare=prepare_store) as pair:
        yield pair


@pytest.fixture
def pair() -> Iterator[ServerPair]:
    """Two servers for one test with a failover."""
    with open_pair(synchronous=True, prepare=prepare_store) as pair:
        yield pair


def requests_for(store: Store, seed: int = 7) -> Iterator[RideRequest]:
    return draw_requests(np.random.default_rng(seed), riders_by_city(store))


@contextmanager
def nothing_sent(pair: ServerPair) -> Iterator[None]:
    """Suspend the WAL sender. Its connection stays open."""
    with pair.primary.connect() as connection:
        row = connection.execute("SELECT pid FROM pg_stat_replication").fetchone()
    assert row is not None
    sender = psutil.Process(row[0])
    sender.suspend()
    try:
        yield
    finally:
        if sender.is_running():
            sender.resume()


def wait_for_commits_held_back(pair: ServerPair, count: int = 1) -> None:
    query = b"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with pair.primary.connect() as connection:
        wait_until(lambda: connection.execute(query).fetchone() == (count,), "too few commits wait")


# ── Choice of the server ─────────────────────────────────────────────────────────────────────────


def test_of_several_hosts_the_one_that_accepts_writes_is_used(shared_pair: ServerPair):
    hosts = ",".join(str(node.cluster.socket_folder) for node in (shared_pair.standby, shared_pair.primary))
    dsn = make_conninfo(host=hosts, user="ridelake", dbname="rides", target_session_attrs="any")
    store = open_database(dsn)
    with store.connect() as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
    assert conninfo_to_dict(store.conninfo)["connect_timeout"] == "2"


@pytest.mark.slow
def test_a_pool_continues_on_the_promoted_server(pair: ServerPair):
    store = open_database(pair.dsn)
    requests = requests_for(store)
    request = next(requests)
    with RetryPool(store, size=4) as pool:
        before = pool.call(lambda connection: booking.book(connection, request))
        pair.primary.kill()
        failover = threading.Thread(target=pair.fail_over)
        failover.start()
        again = pool.call(lambda connection: booking.book(connection, request))
        failover.join()
        assert again == before
        other = next(requests)
        assert pool.call(lambda connection: booking.book(connection, other)).outcome is Outcome.ASSIGNED
        assert 0 < pool.retries.total < 200  # not a busy loop


def test_a_call_on_a_standby_is_retried_on_another_connection(shared_pair: ServerPair):
    store = open_database(shared_pair.dsn)
    alone = replace(store, conninfo=make_conninfo(shared_pair.standby.conninfo, dbname="rides"))
    with RetryPool(alone, size=2, policy=RetryPolicy(seconds_max=0.5)) as pool:
        with pytest.raises(Exception, match="read-only transaction"):
            pool.call(lambda connection: connection.execute("UPDATE drivers SET name = name"))
        assert pool.retries.by_reason[STANDBY] > 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="/proc/self/maps does not exist")
@pytest.mark.slow
def test_a_standby_for_queries_leaves_no_shared_memory(shared_pair: ServerPair):
    store = open_database(shared_pair.dsn)
    primary = replace(store, conninfo=make_conninfo(shared_pair.primary.conninfo, dbname="rides"))
    with open_standby(primary) as dsn:
        with psycopg.connect(dsn) as connection:
            data = connection.execute("SHOW data_directory").fetchone()
        assert data is not None
        pid = (Path(data[0]) / "postmaster.pid").read_text().split("\n", 1)[0]
        mapped = re.findall(r"/dev/shm/PostgreSQL\.\d+", Path(f"/proc/{pid}/maps").read_text())
        assert mapped
    assert not [name for name in mapped if Path(name).exists()]


# ── Durability of an acknowledgement ─────────────────────────────────────────────────────────────────────


def test_a_cancelled_wait_for_the_standby_is_not_an_acknowledgement(shared_pair: ServerPair):
    store = open_database(shared_pair.dsn)
    requests = requests_for(store)
    request = next(requests)
    with RetryPool(store, size=2) as pool, ThreadPoolExecutor(1) as client:
        with nothing_sent(shared_pair):
            answer = client.submit(pool.call, lambda connection: booking.book(connection, request))
            wait_for_commits_held_back(shared_pair)
            end_a_wait(shared_pair, "pg_cancel_backend")
            # The ride is committed and visible. The client retries, finds the ride, and waits again.
            wait_for_commits_held_back(shared_pair)
            assert_stored_on(shared_pair, request, there=True)
            time.sleep(0.3)
            assert not answer.done()
        assert answer.result(30).outcome is Outcome.ASSIGNED
        assert pool.retries.by_reason[UNREPLICATED] == 1


def test_a_decision_found_by_a_retry_waits_for_the_standby(shared_pair: ServerPair):
    """The session that committed the ride is terminated while it waits. A retry finds the ride by a read, and
    reads do not wait for the standby. Without another wait, the client would acknowledge a ride that only the
    primary has."""
    store = open_database(shared_pair.dsn)
    requests = requests_for(store, seed=8)
    request = next(requests)
    with RetryPool(store, size=2) as pool, ThreadPoolExecutor(1) as client:
        with nothing_sent(shared_pair):
            answer = client.submit(pool.call, lambda connection: booking.book(connection, request))
            wait_for_commits_held_back(shared_pair)
            end_a_wait(shared_pair, "pg_terminate_backend")
            wait_until(lambda: pool.retries.total > 0, "no call was retried")
            time.sleep(0.3)
            assert_stored_on(shared_pair, request, there=True)
            assert not answer.done()
        assert answer.result(30).outcome is Outcome.ASSIGNED


def test_only_a_conflict_has_a_known_outcome():
    class Conflict(psycopg.errors.SerializationFailure):
        pass

    assert not outcome_unknown_after(Conflict())
    assert not outcome_unknown_after(ValueError())
    assert outcome_unknown_after(psycopg.errors.AdminShutdown())
    assert outcome_unknown_after(psycopg.OperationalError("the connection is closed"))
    assert outcome_unknown_after(NotReplicated("not there yet"))
    assert retry_reason(psycopg.errors.ReadOnlySqlTransaction()) == STANDBY


def test_a_commit_that_never_reaches_the_standby_raises():
    def never() -> None:
        raise NotReplicated("the standby does not have it")

    with pytest.raises(NotReplicated, match="the standby does not have it"):
        retry(never, RetryPolicy(seconds_max=0.05), RetryCounts())


def end_a_wait(pair: ServerPair, by: str) -> None:
    query = f"SELECT {by}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with pair.primary.connect() as connection:
        assert connection.execute(query.encode()).fetchall() == [(True,)]


def assert_stored_on(pair: ServerPair, request: RideRequest, *, there: bool) -> None:
    with psycopg.connect(pair.primary.conninfo, dbname="rides") as connection:
        found = connection.execute(
            "SELECT count(*) FROM ridelake.rides WHERE request_id = %s", (request.request_id,)
        ).fetchone()
    assert found == (int(there),)


# ── The lake ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_lake_continues_on_the_promoted_server(pair: ServerPair, tmp_path: Path):
    store = open_database(pair.dsn)
    requests = requests_for(store)
    lake = Lake.create(LakeAddress.at(tmp_path / "lake"))
    with RetryPool(store, size=2) as pool:
        book_some(pool, requests)
        first = publish_snapshot(store, lake)
        book_some(pool, requests)
        before = publish_changes(store, lake, verify=True).epoch
        pair.primary.kill()
        pair.fail_over()
        book_some(pool, requests)
        after = publish_changes(store, lake, verify=True).epoch
    assert (first.token.timeline, before.token.timeline, after.token.timeline) == (1, 1, 2)
    assert after.token.system_identifier == before.token.system_identifier
    assert (after.number, after.kind, after.verified) == (3, "changes", True)
    assert 0 < after.tables["rides"].changed < after.tables["rides"].rows  # not all rows
    assert verify_now(store, lake)
    with store.connect() as connection:
        assert list(read_forks(connection, 2) or {}) == [1]


@pytest.mark.slow
def test_a_promoted_standby_that_lagged_behind_the_lake_is_refused(asynchronous: ServerPair, tmp_path: Path):
    pair, store = asynchronous, open_database(asynchronous.dsn)
    requests = requests_for(store)
    lake = Lake.create(LakeAddress.at(tmp_path / "lake"))
    with RetryPool(store, size=2) as pool:
        publish_snapshot(store, lake)
        with nothing_sent(pair):
            book_some(pool, requests)
            epoch = publish_changes(store, lake).epoch
            pair.primary.kill()
        pair.fail_over()
        book_some(pool, requests)
        with pytest.raises(
            UsageError, match=r"standby may lack rows.*run `ridelake snapshot` to publish all rows"
        ) as error:
            publish_changes(store, lake)
        assert "changed from timeline 1 to 2" in str(error.value)
        again = publish_snapshot(store, lake, verify=True)
    assert (again.number, again.kind, again.verified) == (epoch.number + 1, "full", True)


def test_a_standby_is_refused_as_a_source(shared_pair: ServerPair, tmp_path: Path):
    store = open_database(shared_pair.dsn)
    alone = replace(store, conninfo=make_conninfo(shared_pair.standby.conninfo, dbname="rides"))
    with pytest.raises(UsageError, match="is a standby"):
        publish_snapshot(alone, Lake.create(LakeAddress.at(tmp_path / "lake")))


def test_a_role_that_may_not_read_the_history_file_gets_no_history(shared_pair: ServerPair):
    with shared_pair.primary.connect() as connection:
        connection.execute("CREATE ROLE reader")
        connection.execute("SET ROLE reader")
        assert read_forks(connection, 2) is None


@pytest.mark.parametrize(
    ("lsn", "kept"),
    [("0/3FFF", True), ("0/4000", True), ("0/4028", True), ("0/4029", False), ("1/0", False)],
)
def test_an_epoch_is_accepted_up_to_the_fork_and_its_page_header(lsn: str, kept: bool):
    assert history_contains({1: "0/4000"}, 1, lsn) is kept
    assert not history_contains({2: "0/4000"}, 1, lsn)  # another timeline


def test_within_a_page_one_byte_after_the_fork_is_too_late():
    assert history_contains({1: "0/4100"}, 1, "0/4100")
    assert not history_contains({1: "0/4100"}, 1, "0/4101")


@pytest.fixture
def asynchronous() -> Iterator[ServerPair]:
    with open_pair(synchronous=False, prepare=prepare_store) as pair:
        yield pair


def book_some(pool: RetryPool, requests: Iterator[RideRequest], count: int = 10) -> None:
    for _ in range(count):
        request = next(requests)
        pool.call(lambda connection, request=request: booking.book(connection, request))
