"""A failover with the oldest supported version of Postgres."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from old_pair import DEBIAN_15, OldPair, old_pair

from oltp import booking
from oltp.cluster.node import wait_until
from oltp.drill.failover import prepare_store
from oltp.pool import RetryPool
from oltp.retry import UNREPLICATED
from oltp.store import open_database
from oltp.workload import draw_requests, riders_by_city
from ridelake.ride import Outcome

SETTINGS = {
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",
    "wal_retrieve_retry_interval": "100ms",
}


@pytest.fixture
def pair() -> Iterator[OldPair]:
    if not (DEBIAN_15 / "pg_ctl").exists():
        pytest.skip("PostgreSQL 15 is not installed (Debian: postgresql-15)")
    with old_pair(DEBIAN_15) as pair:
        pair.start("a", **SETTINGS)
        prepare_store(pair.conninfo("a"))
        pair.copy()
        start_standby(pair)
        with psycopg.connect(pair.conninfo("a"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'b'")
            connection.execute("SELECT pg_reload_conf()")
            state = b"SELECT sync_state FROM pg_stat_replication"
            wait_until(
                lambda: connection.execute(state).fetchone() == ("sync",), "b is not a synchronous standby"
            )
        yield pair


def start_standby(pair: OldPair) -> None:
    upstream = f"{pair.conninfo('a')} application_name=b"
    pair.start("b", primary_conninfo=upstream, primary_slot_name="b", **SETTINGS)


@pytest.mark.slow
def test_clients_of_postgres_15_wait_for_its_standby_and_continue_there(pair: OldPair):
    store = open_database(pair.dsn)
    assert store.server_version // 10_000 == 15
    requests = draw_requests(np.random.default_rng(7), riders_by_city(store))
    first, second, third = (next(requests) for _ in range(3))
    with RetryPool(store, size=2) as pool, ThreadPoolExecutor(1) as client:
        before = pool.call(lambda connection: booking.book(connection, first))

        pair.kill("b")  # so that the commit waits
        answer = client.submit(pool.call, lambda connection: booking.book(connection, second))
        with psycopg.connect(pair.conninfo("a"), autocommit=True) as connection:
            waiting = b"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            cancel = b"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            wait_until(lambda: connection.execute(waiting).fetchone() == (1,), "no commit waits")
            assert connection.execute(cancel).fetchall() == [(True,)]
        wait_until(
            lambda: pool.retries.by_reason[UNREPLICATED] == 1, "the unreplicated commit was not retried"
        )
        assert not answer.done()
        start_standby(pair)
        assert answer.result(30).outcome is Outcome.ASSIGNED

        pair.kill("a")
        failover = threading.Thread(target=pair.promote)
        failover.start()
        assert pool.call(lambda connection: booking.book(connection, first)) == before
        assert pool.call(lambda connection: booking.book(connection, second)) == answer.result()
        assert pool.call(lambda connection: booking.book(connection, third)).outcome is Outcome.ASSIGNED
        failover.join()
