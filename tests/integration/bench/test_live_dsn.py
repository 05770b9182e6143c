"""`ridelake live --dsn` only reads the store."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from live_page import LivePage, running_live

from oltp.booking import book
from oltp.store import Store
from oltp.workload.requests import draw_requests, riders_by_city

pytestmark = pytest.mark.child

# The objects in the system catalogs, without temporary ones.
OBJECTS = """
    SELECT 'relation', n.nspname || '.' || relname
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace WHERE n.nspname !~ '^pg_(toast_)?temp'
    UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
    UNION ALL SELECT 'extension', extname FROM pg_extension
    UNION ALL SELECT 'trigger', tgname FROM pg_trigger
    UNION ALL SELECT 'function', proname FROM pg_proc
    ORDER BY 1, 2"""
TABLES = """
    SELECT oid::regclass::text FROM pg_class
    WHERE relkind = 'r' AND relnamespace::regnamespace::text ~ '^ridelake' ORDER BY 1"""


def state_of(store: Store) -> tuple[dict[str, object], list[tuple[object, ...]]]:
    """A checksum of the rows of each table, and the objects."""
    with psycopg.connect(store.conninfo) as connection:
        sums = {
            table: connection.execute(
                f"SELECT sum(hashtextextended(t::text, 0)) FROM {table} AS t"
            ).fetchone()
            for (table,) in connection.execute(TABLES).fetchall()
        }
        return sums, connection.execute(OBJECTS).fetchall()


@pytest.mark.slow
def test_a_ride_store_of_a_dsn_is_read_and_not_changed(seeded_store: Store, tmp_path: Path):
    before = state_of(seeded_store)
    with running_live(tmp_path, "--dsn", seeded_store.conninfo) as (_, url):
        page = LivePage(url)
        assert page.hello["embedded"] is False
        page.wait_for(lambda state: {"drivers", "sync", "question", "load"} <= set(state), 120)
        for name in ("load", "crash", "contrast", "index"):
            assert page.post(name, {})[0] == 404
        page.wait_for(lambda state: state["question"]["equal"] is True)
        page.accept("verify", {})
        page.wait_for(lambda state: state["sync"]["verify"]["state"] == "equal")
        page.wait_for(lambda state: state["ride"] is not None)
        assert {"crash", "contrast", "index"}.isdisjoint(page.state)
        assert page.state["load"]["booked"] == 0
        assert state_of(seeded_store) == before
        rides = draw_requests_of(seeded_store)
        with seeded_store.connect() as connection:
            booked = sum(book(connection, next(rides)).ride_id is not None for _ in range(20))
        page.wait_for(lambda state: state["load"]["booked"] == booked > 0)
        page.wait_for(lambda state: state["sync"]["rows"] and state["sync"]["epoch"] > 1)


def draw_requests_of(store: Store) -> Iterator[object]:
    import numpy as np

    return draw_requests(np.random.default_rng(1), riders_by_city(store))


def test_untracked_tables_of_a_dsn_are_not_tracked(store: Store, tmp_path: Path):
    with psycopg.connect(store.conninfo) as connection:
        connection.execute("DROP SCHEMA ridelake CASCADE; DROP SCHEMA ridelake_tracking CASCADE")
        connection.execute("CREATE TABLE public.orders (id bigint PRIMARY KEY)")
    with psycopg.connect(store.conninfo) as connection:
        before = connection.execute(OBJECTS).fetchall()
    with running_live(tmp_path, "--dsn", store.conninfo) as (_, url):
        page = LivePage(url)
        sync = page.wait_for(lambda state: state.get("sync"), 120)
        sync = page.wait_for(lambda state: state["sync"]["trouble"] and state["sync"])
        assert sync["state"] == "paused"
        assert "ridelake track" in sync["trouble"]
        page.accept("sync", {"paused": False})
        page.wait_for(lambda state: state["sync"]["state"] == "paused")
    with psycopg.connect(store.conninfo) as connection:
        assert connection.execute(OBJECTS).fetchall() == before


@pytest.mark.slow
def test_the_lag_is_measured_if_the_ride_store_is_no_longer_tracked(seeded_store: Store, tmp_path: Path):
    with running_live(tmp_path, "--dsn", seeded_store.conninfo) as (_, url):
        page = LivePage(url)
        page.wait_for(lambda state: state.get("sync") and state["sync"]["lag_seconds"] == 0, 120)
        page.accept("sync", {"paused": True})
        with psycopg.connect(seeded_store.conninfo) as connection:
            connection.execute("DROP SCHEMA ridelake_tracking CASCADE")
        page.wait_for(lambda state: state["sync"]["lag_seconds"] > 0)
        page.accept("sync", {"paused": False})
        page.wait_for(lambda state: "not tracked" in (state["sync"]["trouble"] or ""))
        before = page.state["sync"]["lag_seconds"]
        page.wait_for(lambda state: state["sync"]["lag_seconds"] > before)
