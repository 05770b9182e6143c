"""The frontier of measured points, the age of answers, and the end of client processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import psutil
import pyarrow as pa
import pytest
from busy_clients_process import SleepingClients
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from bench.frontier import duckdb_rows
from bench.frontier.client_functions import (
    OLDEST_RUNNING_TRANSACTION,
    Commit,
    History,
    QueryClient,
)
from bench.frontier.clients import BookingEvent, QueryEvent, Window, WindowResult, started
from bench.frontier.grid import (
    FrontierConfig,
    FrontierResult,
    Point,
    area_share,
    bounding_box,
    frontier,
    judge,
    measure,
    point_of,
    sharing_name,
)
from bench.frontier.setups import (
    duckdb_alone,
    postgres_alone,
    postgres_and_epochs,
    postgres_and_standby,
)
from lakehouse.capture.publish import publish_snapshot
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import SnapshotToken
from oltp.drill.pair import catch_up, open_standby
from oltp.store import Store, open_database, transaction
from ridelake.errors import ProofFailed, RidelakeError
from ridelake.ride import Outcome
from ridelake.settings import LakeAddress, Settings

ROOT = Path(__file__).parents[3]
TINY = FrontierConfig(clients=(0, 1), warmup_seconds=0.1, warm_seconds=0.0, seconds=0.6)
ENDED_SECONDS_MAX = 20

rates = st.integers(0, 1_000_000).map(float)  # per second
planes = st.lists(st.tuples(rates, rates), min_size=1, max_size=20)


def test_areas_have_names_from_interference_to_isolation():
    ends = [(100.0, 0.0), (0.0, 10.0)]
    assert area_share([*ends, (100.0, 10.0)]) == 1
    assert area_share([*ends, (50.0, 5.0), (25.0, 7.5)]) == 0.5
    assert area_share([*ends, (20.0, 2.0)]) == pytest.approx(0.2)
    assert [sharing_name(share) for share in (1.0, 0.8, 0.5, 0.2)] == [
        "near isolation",
        "partly isolated",
        "proportional sharing",
        "interference",
    ]


@given(planes)
def test_a_frontier_descends_and_no_point_is_outside_of_it(points):
    edge = frontier(points)
    x_max, y_max = bounding_box(points)
    assert edge[0] == (0, y_max)
    assert edge[-1] == (x_max, 0)
    assert edge == sorted(edge, key=lambda point: (point[0], -point[1]))
    assert [y for _, y in edge] == sorted((y for _, y in edge), reverse=True)
    for x, y in points:
        assert any(x <= right and y <= high for right, high in edge)
    assert 0 <= area_share(points) <= 1 + 1e-9


@given(planes, st.floats(0.1, 10), st.floats(0.1, 10))
def test_an_area_does_not_depend_on_units_or_dominated_points(points, per_x, per_y):
    area = area_share(points)
    dominated = [(x * 0.5, y * 0.5) for x, y in points]
    assert area_share([*points, *dominated]) == pytest.approx(area)
    assert area_share([(x * per_x, y * per_y) for x, y in points]) == pytest.approx(area, abs=1e-6)


def token(snapshot: str) -> SnapshotToken:
    return SnapshotToken(snapshot, "2026-07-01T00:00:00+00:00", "0/0", None, None)


def test_the_age_is_that_of_the_oldest_missing_change():
    history = History([Commit(12, 3.0), Commit(10, 1.0), Commit(11, 2.0)])
    assert history.age_seconds(5.0, token("13:13:")) == 0  # nothing is missing
    assert history.age_seconds(5.0, token("11:11:")) == 3.0  # 11 and 12 are missing
    assert history.age_seconds(5.0, token("10:12:10")) == 4.0  # 10 and 12 are missing
    assert history.age_seconds(2.5, token("12:12:")) == 0  # the missing change is later than the query
    assert History([]).age_seconds(5.0, token("1:1:")) == 0


def test_only_events_that_end_within_the_window_are_counted():
    window = Window(start=0.0, begin=1.0, end=3.0)
    ended = [0.5, 1.5, 2.5, 3.5]
    booked: list[BookingEvent | QueryEvent] = [
        BookingEvent(at - 0.1, at, uuid4(), Outcome.ASSIGNED) for at in ended
    ]
    refused = BookingEvent(1.0, 2.0, uuid4(), Outcome.RIDER_BUSY)
    history = History([Commit(10, 0.0)])
    asked = [
        QueryEvent(1.0, 1.2, token("10:10:")),
        QueryEvent(0.1, 0.9, token("10:10:")),
        QueryEvent(2.0, 3.1),
    ]
    point = point_of((1, 1), [WindowResult(window, [*booked, refused, *asked])], history)
    assert (point.xy, point.bookings, point.refused) == ((1.0, 0.5), 2, 1)
    assert point.latency_ms_p99 == pytest.approx(100)
    assert point.age_seconds_p95 == 1.0


def test_one_system_serves_both_with_half_of_the_best_rates():
    def measured(
        name: str, single: bool, bookings: float, questions: float, seconds: float = 10
    ) -> FrontierResult:
        points = [
            Point(
                1,
                1,
                seconds,
                *counts,
                latency_ms_p50=1,
                latency_ms_p99=1,
                refused=0,
                conflicts=0,
                age_seconds_p95=0,
            )
            for counts in [(round(bookings * seconds), 0), (0, round(questions * seconds))]
        ]
        return FrontierResult(name, single, points, [0.5], "")

    rows, both = measured("rows", True, 100, 10), measured("both", False, 90, 100)
    assert judge([rows, both]) == "holds in part"
    assert judge([measured("rows", True, 100, 1), both]) == "does not hold"
    assert judge([rows, measured("one", True, 95, 99)]) == "holds"
    assert judge([measured("rows", True, 100, 10), measured("columns", True, 5, 100)]) == "holds in part"
    # 60 of 100 is at least half if 10 s were measured, but 0.1 s are too short.
    assert judge([measured("rows", True, 100, 60), both]) == "holds"
    assert judge([measured("rows", True, 100, 60, 0.1), both]) == "holds in part"


@pytest.mark.slow
def test_clients_work_in_one_window_and_report_a_failure():
    with started([SleepingClients(), SleepingClients(calls_max=50)]) as clients:
        assert clients.work(0, 2, warm_seconds=0.0, seconds=0.1).events
        with pytest.raises(RidelakeError, match="ValueError: no more"):
            clients.work(0, 4, warm_seconds=0.0, seconds=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_no_client_outlives_its_parent(end: signal.Signals):
    parent = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "support" / "busy_clients_process.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"at work\n"
        clients = psutil.Process(parent.pid).children(recursive=True)
        assert len(clients) >= 2
        parent.send_signal(end)
        _, left = psutil.wait_procs(clients, timeout=ENDED_SECONDS_MAX)
        assert not left


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(postgres_alone, marks=pytest.mark.slow),
        postgres_and_epochs,
        postgres_and_standby,
        duckdb_alone,
    ],
)
def test_each_system_books_answers_and_passes_its_checks(make: Callable, seeded_store: Store, tmp_path: Path):
    began = monotonic()
    found = measure(make(settings(tmp_path), seeded_store), TINY, seed=1)
    loads = {(point.booking_clients, point.querying_clients): point for point in found.points}
    assert set(loads) == {(0, 1), (1, 0), (1, 1)}
    assert loads[1, 0].bookings > 0
    assert (loads[1, 0].questions, loads[0, 1].bookings) == (0, 0)
    assert "audit holds" in found.proof
    assert found.age_seconds_p95 == 0 or (not found.single and found.age_seconds_p95 < monotonic() - began)
    assert list(tmp_path.iterdir()) == []
    until = monotonic() + 120
    # Other tests may also have databases on this server.
    while left_on_the_server(seeded_store) and monotonic() < until:
        sleep(0.1)
    assert not left_on_the_server(seeded_store)


def left_on_the_server(store: Store) -> list[tuple]:
    with store.connect() as connection:
        return connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'frontier-%'"
            " UNION ALL SELECT slot_name FROM pg_replication_slots"
        ).fetchall()


@pytest.mark.slow
def test_a_standby_that_has_caught_up_has_all_changes_except_those_of_running_transactions(
    seeded_store: Store,
):
    with (
        open_standby(seeded_store) as dsn,
        seeded_store.connect() as primary,
        seeded_store.connect() as other,
    ):
        standby = open_database(dsn, install=False)
        with standby.connect() as behind, transaction(other):
            other.execute("CREATE TABLE early AS SELECT 1 AS one")
            (early,) = other.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
            primary.execute("CREATE TABLE late AS SELECT pg_current_xact_id()::text::bigint AS tx")
            catch_up(seeded_store, standby)
            assert behind.execute("SELECT tx > %s FROM late", (early,)).fetchone() == (True,)
            (oldest,) = behind.execute(OLDEST_RUNNING_TRANSACTION).fetchone() or ("0",)
            assert int(oldest) <= early
        catch_up(seeded_store, standby)
        with standby.connect() as behind:
            assert behind.execute("SELECT one FROM early").fetchone() == (1,)
            until = monotonic() + 60  # other tests may have transactions on this server
            while int((behind.execute(OLDEST_RUNNING_TRANSACTION).fetchone() or ("0",))[0]) <= early:
                assert monotonic() < until
                sleep(0.05)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.slow
def test_no_standby_outlives_its_parent(end: signal.Signals, tmp_path: Path):
    parent = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "support" / "standby_process.py", tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with parent:
        assert parent.stdout is not None
        folder = Path(str(conninfo_to_dict(parent.stdout.readline().decode())["host"])).parents[1]
        servers = [one for one in psutil.process_iter(["name"]) if works_in(one, folder)]
        assert servers
        parent.send_signal(end)
        _, left = psutil.wait_procs(servers, timeout=ENDED_SECONDS_MAX)
        assert not left
    give_up = monotonic() + ENDED_SECONDS_MAX
    while folder.exists() and monotonic() < give_up:
        sleep(0.1)
    assert not folder.exists()


def works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.info["name"] == "postgres" and process.cwd().startswith(f"{folder}/")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


@pytest.mark.slow
def test_the_audit_of_duckdb_finds_violations(seeded_store: Store, tmp_path: Path):
    file = tmp_path / "rides.duckdb"
    duckdb_rows.create(file, publish_snapshot(seeded_store, Lake.create(settings(tmp_path).lake)))
    with duckdb_rows.opened(file) as connection:
        assert duckdb_rows.broken_conditions(connection) == []
        connection.execute("UPDATE drivers SET status = 'busy' WHERE driver_id = 1")
        connection.execute("UPDATE accounts SET balance_cents = balance_cents + 1 WHERE account_id = 101")
        assert set(duckdb_rows.broken_conditions(connection)) == {
            "money_is_conserved",
            "balances_are_sums",
            "busy_means_one_active_ride",
        }


class WrongFromSecondAnswer:
    """An engine whose first answer is correct and whose later answers are wrong."""

    name = "wrong"

    def __init__(self) -> None:
        self.price = 20.4

    def sql(self, query: str, parameters: object) -> pa.Table:
        self.price += 1
        return pa.table({"average_price": [self.price - 1]})


def test_a_wrong_answer_during_the_bookings_is_detected():
    engine, expected = WrongFromSecondAnswer(), pa.table({"average_price": [20.4]})
    querying = QueryClient(lambda: (engine, None), {"average_price": expected}, number=0)
    querying()
    # Ask the first question again.
    querying._questions = iter([next(querying._questions) for _ in range(4)][-1:])
    with pytest.raises(ProofFailed, match="wrong answer to average_price"):
        querying()


def settings(home: Path) -> Settings:
    return Settings(home, LakeAddress.at(home / "lake"))
