"""`ridelake live` on an embedded store: the page shows the data of Postgres and of the lake."""

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from live_page import LivePage, running_live
from terminal import ridelake

from oltp.cluster.server import Cluster

RIDES = 3_000
STEADY = {"paused": False, "clients": 2, "rate": 50, "batch": False}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    assert ridelake("seed", "--rides", str(RIDES), folder=folder).returncode == 0
    return folder / ".ridelake"


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with running_live(home.parent) as (_, url):
        page = LivePage(url)
        page.wait_for(lambda state: {"load", "sync", "question", "contrast", "index"} <= set(state), 120)
        page.close()
        yield url


@pytest.fixture
def page(url: str) -> Iterator[LivePage]:
    """A viewer. The bookings, the sync and the question have their initial settings."""
    page = LivePage(url)
    page.accept("load", STEADY)
    page.accept("sync", {"paused": False, "every_seconds": 0.5})
    page.accept("question", {"name": "average_price", "engine": "duckdb", "fresh": False, "target": "both"})
    yield page
    page.close()


@pytest.fixture
def database(home: Path) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    conninfo = Cluster(home / "postgres").conninfo("ridelake")
    with psycopg.connect(conninfo, autocommit=True, options="-c search_path=ridelake") as connection:
        yield connection


def pause(page: LivePage) -> None:
    """Pause the bookings, and wait until no request is in progress."""
    page.accept("load", {"paused": True})
    page.wait_for(lambda state: state["load"]["state"] == "paused")
    before = None
    while before != (before := page.wait_for(lambda state: state["load"])["requested"]):
        time.sleep(0.5)


def value(connection: "psycopg.Connection[tuple[object, ...]]", query: str) -> object:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_the_booked_rides_equal_those_in_postgres(page: LivePage, database):
    pause(page)
    booked, before = page.state["load"]["booked"], value(database, "SELECT count(*) FROM rides")
    page.accept("load", {"paused": False, "clients": 4, "rate": None, "batch": True})
    page.wait_for(lambda state: state["load"]["booked"] > booked + 20)
    assert page.wait_for(lambda state: state["load"]["batch"])
    page.accept("load", {"clients": 2, "rate": 80.0, "batch": False})
    page.wait_for(lambda state: state["load"]["rate"] == 80.0)
    pause(page)
    found = page.state["load"]
    assert found["booked"] - booked == value(database, "SELECT count(*) FROM rides") - before
    assert found["requested"] == found["booked"] + sum(found["refused"].values())
    assert value(database, "SELECT count(*) FROM rides WHERE status IN ('assigned', 'started')") == 0


def test_the_newest_ride_and_the_drivers_equal_those_in_postgres(page: LivePage, database):
    pause(page)
    newest = value(database, "SELECT max(ride_id) FROM rides")
    ride = page.wait_for(lambda state: (state["ride"] or {}).get("ride_id") == newest and state["ride"])
    (own,) = [one for one in ride["tuples"] if one["is_ride"]]
    fare = next(column for column in ride["columns"] if column["name"] == "fare_cents")
    assert int(fare["value"]) == value(database, f"SELECT fare_cents FROM rides WHERE ride_id = {newest}")
    assert own["offset"] < fare["offset"] < own["offset"] + own["bytes"] <= ride["page_bytes"]
    free = value(database, "SELECT count(*) FROM drivers WHERE status = 'available'")
    page.wait_for(lambda state: sum(available for _, available, _ in state["drivers"]) == free)


def test_two_viewers_see_the_same_and_a_closed_one_stops_nothing(page: LivePage, url: str):
    other = LivePage(url)
    other.accept("load", {"clients": 3})
    for viewer in (page, other):
        viewer.wait_for(lambda state: state["load"]["clients"] == 3 and state["load"]["state"] == "running")
    assert other.hello["questions"] == page.hello["questions"]
    assert other.hello["embedded"] is True
    other.close()
    booked, epoch = page.state["load"]["booked"], page.state["sync"]["epoch"]
    page.wait_for(lambda state: state["load"]["booked"] > booked + 10 and state["sync"]["epoch"] > epoch)


@pytest.mark.slow
def test_the_lag_grows_while_the_sync_is_paused_and_falls_after_it(page: LivePage):
    page.accept("sync", {"paused": True})
    epoch = page.wait_for(lambda state: state["sync"]["state"] == "paused" and state["sync"])["epoch"]
    page.wait_for(lambda state: state["sync"]["lag_seconds"] > 3)
    assert page.state["sync"]["epoch"] <= epoch + 1  # an epoch may have been in progress
    page.accept("sync", {"paused": False})
    page.wait_for(lambda state: state["sync"]["lag_seconds"] < 3 and state["sync"]["epoch"] > epoch)
    assert page.state["sync"]["rows"] > 0
    assert page.state["sync"]["bytes"] > 0
    assert page.state["sync"]["table_bytes"] > page.state["sync"]["lake_bytes"] > 0


@pytest.mark.slow
def test_verify_compares_all_rows_during_bookings(page: LivePage):
    page.accept("verify", {})
    page.wait_for(lambda state: state["sync"]["verify"]["state"] == "running")
    verified = page.wait_for(
        lambda state: state["sync"]["verify"]["state"] != "running" and state["sync"]["verify"]
    )
    assert verified["state"] == "equal", verified
    assert f"epoch {verified['epoch']} equals Postgres" in verified["text"]


def test_the_answers_are_compared_when_the_lake_is_up_to_date(page: LivePage):
    question = page.wait_for(
        lambda state: state["question"]["as_of_seconds"] is not None and state["question"]
    )
    assert question["equal"] is None, "answers of different snapshots were compared"
    pause(page)
    question = page.wait_for(lambda state: state["question"]["equal"] is not None and state["question"])
    assert question["equal"] is True
    assert question["as_of_seconds"] is None
    assert question["rows"]["heap"] == [[0, 1]]
    assert {chunk["column"] for chunk in question["columns"]["chunks"] if chunk["read"]} >= {"fare_cents"}
    assert 0 < question["columns"]["bytes"] < question["columns"]["of_bytes"]
    page.accept("question", {"sql": "SELECT count(*) AS n FROM rides", "engine": "polars", "target": "both"})
    question = page.wait_for(
        lambda state: state["question"]["name"] is None and state["question"]["equal"] and state["question"]
    )
    assert question["engine"] == "polars"
    assert question["answer"] == {"columns": ["n"], "rows": question["answer"]["rows"], "more": 0}


@pytest.mark.slow
def test_a_fresh_answer_is_not_older_than_its_query(page: LivePage):
    page.accept("sync", {"paused": True})
    page.wait_for(lambda state: state["sync"]["lag_seconds"] > 2)
    page.accept("question", {"fresh": True, "target": "columns"})
    question = page.wait_for(
        lambda state: state["question"]["fresh"] and state["question"]["columns"] and state["question"]
    )
    assert question["columns"]["error"] is None
    assert question["as_of_seconds"] < page.state["sync"]["lag_seconds"]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM rides",
        "INSERT INTO cities VALUES (9, 'x', 'UTC')",
        "CREATE TABLE t AS SELECT 1",
        "COPY rides TO '/tmp/live-test'",
        "SELECT pg_sleep(60)",
        "SELECT set_config('role', 'ridelake', false)",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_the_sandbox_refuses_a_statement_of_a_viewer(page: LivePage, database, sql: str):
    pause(page)
    before = value(database, "SELECT count(*) FROM rides")
    page.accept("question", {"sql": sql, "engine": "duckdb", "target": "both"})
    question = page.wait_for(
        lambda state: state["question"]["sql"] == sql and state["question"]["rows"] and state["question"]
    )
    assert question["rows"]["error"]
    assert question["columns"]["error"]
    assert question["answer"] is None
    assert value(database, "SELECT count(*) FROM rides") == before
    assert value(database, "SELECT to_regclass('t')") is None


def test_a_chosen_question_replaces_the_old_result_at_once(page: LivePage):
    page.wait_for(lambda state: state["question"]["target"] == "both" and state["question"]["rows"])
    slow = "SELECT count(*) FROM rides a, rides b, rides c WHERE a.fare_cents + b.fare_cents > c.fare_cents"
    page.accept("question", {"sql": slow, "engine": "polars"})
    question = page.wait_for(lambda state: state["question"]["sql"] == slow and state["question"])
    for part in ("rows", "columns", "equal", "as_of_seconds", "answer"):
        assert question[part] is None
    chosen = {"name": None, "engine": "polars", "fresh": False, "target": "both"}
    assert {field: question[field] for field in chosen} == chosen


def test_a_slow_query_ends_when_another_is_asked(page: LivePage):
    slow = (
        "SELECT count(*) FROM rides a, rides b, rides c WHERE a.fare_cents + b.fare_cents + c.fare_cents = 1"
    )
    page.accept("question", {"sql": slow, "target": "rows"})
    time.sleep(1.5)
    page.accept("question", {"name": "average_price"})
    page.wait_for(lambda state: state["question"]["name"] == "average_price" and state["question"]["rows"])
    assert page.state["question"]["rows"]["error"] is None
    assert page.state["question"]["rows"]["seconds"] is not None


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("load", {"clients": 65}), ("load", {"clients": True}), ("load", {"rate": 0}),
        ("load", {"rate": "fast"}), ("load", {"rate": 10**400}), ("sync", {"every_seconds": 10**400}),
        ("load", {"speed": 1}), ("sync", {"every_seconds": 0}),
        ("sync", {"paused": 1}),
        ("question", {"name": "no_such_question"}), ("question", {"engine": "postgres"}),
        ("question", {"sql": " -- nothing"}), ("question", {"sql": "SELECT 1; SELECT 2"}),
        ("question", {"target": "all"}),
        ("question", {"sql": "SELECT '\ud800'"}), ("contrast", {"strategy": "hope"}), ("contrast", {}),
        ("index", {"covering": "yes"}), ("index", {}), ("crash", {"now": True}), ("setup", {"step": 0}),
    ],
)  # fmt: skip
def test_a_wrong_body_is_refused_with_one_line(page: LivePage, name: str, body: dict[str, object]):
    status, answer = page.post(name, body)
    assert status == 400
    assert "\n" not in answer["error"]


def test_a_step_of_the_tour_sets_the_workers(page: LivePage):
    page.accept("setup", {"step": 2})
    page.wait_for(lambda state: state["load"]["state"] == "paused" and state["question"]["target"] == "off")


@pytest.mark.slow
def test_strategies_without_isolation_book_drivers_twice_and_the_store_does_not(page: LivePage, database):
    pause(page)
    before = value(database, "SELECT count(*) FROM rides")
    seen = []
    for strategy in ("no_transaction", "store"):
        page.accept("contrast", {"strategy": strategy})
        page.wait_for(
            lambda state: state["contrast"]["state"] == "running" and 0 < state["contrast"]["round"] < 25
        )
        found = page.wait_for(
            lambda state, strategy=strategy: [
                one for one in state["contrast"]["done"] if one["strategy"] == strategy
            ]
        )
        seen.append(found[0])
    without, store = seen
    assert without["anomalies"]["driver booked twice"] > 0
    assert without["mark"] == "✗"
    assert set(store["anomalies"].values()) == {0}
    assert store["mark"] == "✓"
    assert value(database, "SELECT count(*) FROM rides") == before, "the strategies have changed the store"


def test_a_contrast_can_be_stopped(page: LivePage, database):
    page.accept("contrast", {"strategy": "all"})
    page.wait_for(lambda state: state["contrast"]["state"] == "running" and state["contrast"]["round"] > 0)
    page.accept("contrast", {"stop": True})
    page.wait_for(lambda state: state["contrast"]["state"] == "idle")
    assert len(page.state["contrast"]["done"]) < 9
    assert value(database, "SELECT count(*) FROM pg_database WHERE datname LIKE 'ridelake_acid%'") == 0


@pytest.mark.slow
def test_the_indexes_are_changed_and_restored(page: LivePage, database):
    page.accept("index", {"covering": True})
    page.wait_for(lambda state: state["index"]["covering"] == "present")
    page.wait_for(lambda state: (state["question"]["rows"] or {}).get("heap") == [])
    page.accept("index", {"drivers_by_stand": False})
    page.wait_for(lambda state: state["index"]["dropped"] == ["drivers_by_stand"])
    assert value(database, "SELECT to_regclass('drivers_by_stand')") is None
    booked = page.state["load"]["booked"]
    page.wait_for(lambda state: state["load"]["booked"] > booked + 5)
    page.accept("index", {"drivers_by_stand": True})
    page.wait_for(lambda state: state["index"]["dropped"] == [])
    page.accept("index", {"covering": False})
    page.wait_for(lambda state: state["index"]["covering"] == "absent")
    assert value(database, "SELECT to_regclass('live_covering')") is None


def test_an_invalid_index_is_replaced(page: LivePage, database):
    page.accept("index", {"drivers_by_stand": True})
    query = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'drivers_by_stand'::regclass"
    page.wait_for(lambda state: "exists again" in state["index"]["text"])
    database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'drivers_by_stand'::regclass")
    assert value(database, query) is False
    page.accept("index", {"covering": False})
    page.wait_for(lambda state: state["index"]["dropped"] == ["drivers_by_stand"])
    page.accept("index", {"drivers_by_stand": True})
    page.wait_for(lambda state: state["index"]["dropped"] == [])
    assert value(database, query) is True


def test_every_acknowledged_decision_survives_a_kill_of_the_server(page: LivePage):
    page.wait_for(lambda state: state["load"]["rides_per_second"] > 5)
    page.accept("crash", {})
    page.wait_for(lambda state: state["crash"]["state"] != "recovered")
    crash = page.wait_for(lambda state: state["crash"]["state"] == "recovered" and state["crash"], 90)
    assert crash["acknowledged"] == crash["found"] > 0
    assert crash["lost"] == 0
    assert crash["gap_seconds"] > 0
    booked, epoch = page.state["load"]["booked"], page.state["sync"]["epoch"]
    page.wait_for(lambda state: state["load"]["booked"] > booked + 10 and state["sync"]["epoch"] > epoch)
    page.wait_for(lambda state: state["question"]["rows"] and state["question"]["rows"]["error"] is None)
    late = LivePage(page.url)
    assert "server killed" in {point["mark"] for point in late.hello["history"]}
    assert page.state["workers"] == {}
    late.close()
