"""A simulation counts every request once and audits the store, also after failures of clients, connections
and the server. The output of its command."""

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from uuid import UUID

import pytest
from rich.console import Console
from terminal import refusal, ridelake

from oltp import booking, lifecycle
from oltp.cluster.server import open_cluster, start
from oltp.ingest.seed import seed_rides
from oltp.store import Store, ensure_database, open_database
from oltp.workload import SimulationResult, schedule, simulate
from oltp.workload.dashboard import LiveDisplay, percentiles
from oltp.workload.metrics import Metrics
from oltp.workload.requests import RequestIds
from oltp.workload.simulation import RunState
from ridelake.errors import CannotConnect, ProofFailed
from ridelake.ride import Decision, Outcome, RideRequest, new_request_id

ONE_BY_ONE = {"clients": 5}
BATCH = {"clients": 24, "batch": True}
both_modes = pytest.mark.parametrize("how", [ONE_BY_ONE, BATCH], ids=["one by one", "batch"])


def rows(store: Store, query: str) -> list[tuple]:
    with store.connect() as connection:
        return connection.execute(query.encode()).fetchall()


# ── Counting ────────────────────────────────────────────────────────────────────────────────────


@both_modes
def test_a_simulation_counts_every_request_once(seeded_store: Store, how: dict):
    done = simulate(seeded_store, rides=500, seed=3, **how)
    assert done.requested == 500 == done.assigned + sum(done.refused.values())
    assert done.assigned == done.completed + sum(done.cancelled.values())
    assert 0 < done.latency_ms_p50 <= done.latency_ms_p99 <= done.latency_ms_max
    stored = dict(rows(seeded_store, "SELECT outcome, count(*) FROM requests GROUP BY 1"))
    assert stored == {"assigned": done.assigned} | done.refused
    assert done.audit.passed, done.audit.verdict
    assert (done.batch_mean is None) == (done.mode == "one by one")
    json.dumps(done.as_dict())


@both_modes
def test_every_scenario_occurs_and_is_stored_as_reported(
    seeded_store: Store, how: dict, monkeypatch: pytest.MonkeyPatch
):
    for share in ("SENT_AGAIN_SHARE", "ABANDONED_SHARE", "REFUNDED_SHARE", "RESTED_SHARE"):
        monkeypatch.setattr(schedule, share, 0.2)
    monkeypatch.setattr(schedule, "CANCEL_SHARES", dict.fromkeys(schedule.CANCEL_SHARES, 0.1))
    done = simulate(seeded_store, rides=400, seed=1, **how)
    assert done.audit.passed, done.audit.verdict
    cancelled = "SELECT cancel_reason, count(*) FROM rides JOIN requests USING (request_id) WHERE status = "
    assert dict(rows(seeded_store, f"{cancelled}'cancelled' GROUP BY 1")) == done.cancelled
    assert {"rider", "driver", "no_show", "expired"} == set(done.cancelled)
    refunded, topped_up, offline = rows(
        seeded_store,
        "SELECT (SELECT count(*) FROM payments WHERE status = 'refunded'),"
        " (SELECT count(*) FROM ledger WHERE top_up_id IS NOT NULL),"
        " (SELECT count(*) FROM drivers WHERE status = 'offline')",
    )[0]
    assert (refunded, topped_up) == (done.refunded, done.topped_up)
    assert offline == 0 < done.went_offline, "a driver is still offline"
    assert done.settled == done.abandoned > 50
    assert done.sent_again > 100


def test_a_lost_decision_is_detected(seeded_store: Store):
    with seeded_store.connect() as connection:
        connection.execute(
            "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        )
        connection.execute(
            "CREATE TRIGGER forget BEFORE INSERT ON requests FOR EACH ROW"
            " WHEN (NEW.outcome = 'payment_declined') EXECUTE FUNCTION forget()"
        )
    with pytest.raises(
        ProofFailed, match=r"of \d+ acknowledged decisions the store lacks \d+ payment_declined"
    ):
        simulate(seeded_store, rides=300, clients=2, seed=1)


def test_a_different_answer_to_a_repeated_request_is_detected(
    seeded_store: Store, monkeypatch: pytest.MonkeyPatch
):
    calls = itertools.count()

    def changed_answer(connection, request: RideRequest) -> Decision:
        decision = real(connection, request)
        return decision if next(calls) % 2 == 0 else Decision(request.request_id, decision.outcome, 1, 1)

    real = booking.book
    monkeypatch.setattr(booking, "book", changed_answer)
    monkeypatch.setattr(schedule, "SENT_AGAIN_SHARE", 1.0)
    monkeypatch.setattr(schedule, "ABANDONED_SHARE", 0.0)
    with pytest.raises(ProofFailed, match=r"\(ride 1, driver 1\), and with .*; audit: "):
        simulate(seeded_store, rides=5, clients=1)


def test_decisions_of_a_run_are_distinguished_from_others(seeded_store: Store):
    ids, others = RequestIds(), RequestIds()
    rider_id = rows(seeded_store, "SELECT min(rider_id) FROM riders")[0][0]
    made = [new() for new in (ids.new, others.new, new_request_id, ids.new)]
    assert [number.version for number in made] == [7] * 4
    assert all(number.variant == "specified in RFC 4122" for number in made)
    assert len({ids.new() for _ in range(4_000)}) == 4_000
    with seeded_store.connect() as connection:
        for request_id in made:
            booking.book(connection, RideRequest(request_id, rider_id, 1, 1, 1, 100))
        assert ids.stored(connection) == {Outcome.UNKNOWN_ZONE: 2}


def abandoned_ride(store: Store, request_id: UUID, age: str, started: bool = False) -> int:
    """An active ride that a killed client requested `age` ago."""
    with store.connect() as connection:
        rider_id, zone_id = connection.execute(
            "SELECT rider_id, zone_id FROM riders JOIN accounts USING (account_id) JOIN zones USING (city_id)"
            " WHERE rider_id NOT IN (SELECT rider_id FROM rides WHERE ended_at IS NULL)"
            " ORDER BY balance_cents DESC LIMIT 1"
        ).fetchone() or (0, 0)
        request = RideRequest(request_id, rider_id, zone_id, zone_id, 100, 500)
        ride_id = booking.book(connection, request).ride_id
        assert ride_id is not None
        if started:
            lifecycle.start(connection, ride_id)
        connection.execute(
            "UPDATE rides SET requested_at = requested_at - %(age)s::interval,"
            " assigned_at = assigned_at - %(age)s::interval, started_at = started_at - %(age)s::interval"
            " WHERE ride_id = %(ride_id)s",
            {"age": age, "ride_id": ride_id},
        )
    return ride_id


def test_only_rides_of_killed_simulations_are_ended_first(seeded_store: Store):
    killed = RequestIds()
    lost = abandoned_ride(seeded_store, killed.new(), "2 min")
    begun = abandoned_ride(seeded_store, killed.new(), "2 min", started=True)
    fresh = abandoned_ride(seeded_store, killed.new(), "30 s")
    theirs = abandoned_ride(seeded_store, new_request_id(), "1 day")
    theirs_begun = abandoned_ride(seeded_store, new_request_id(), "1 day", started=True)
    done = simulate(seeded_store, rides=5, clients=1)
    assert (done.expired_before, done.under_way_before) == (2, 1)
    found = dict(rows(seeded_store, "SELECT ride_id, status FROM rides"))
    assert (found[lost], found[begun], found[fresh]) == ("cancelled", "completed", "assigned")
    assert (found[theirs], found[theirs_begun]) == ("assigned", "started")
    assert simulate(seeded_store, rides=5, clients=1).expired_before == 0


def test_a_run_right_after_a_killed_one_explains_the_lack_of_drivers(seeded_store: Store):
    with seeded_store.connect() as connection:
        connection.execute("UPDATE drivers SET status = 'offline'")
        connection.execute(
            "UPDATE drivers SET status = 'available' WHERE driver_id ="
            " (SELECT min(driver_id) FROM drivers JOIN riders USING (city_id))"
        )
        rider_id, zone_id = rows(
            seeded_store,
            "SELECT rider_id, zone_id FROM drivers JOIN riders USING (city_id) JOIN accounts"
            " ON accounts.account_id = riders.account_id WHERE status = 'available'"
            " ORDER BY balance_cents DESC LIMIT 1",
        )[0]
        request = RideRequest(RequestIds().new(), rider_id, zone_id, zone_id, 1, 1)
        assert booking.book(connection, request).outcome is Outcome.ASSIGNED
    done = ridelake("simulate", "--dsn", seeded_store.conninfo, "--rides", "20", "--clients", "2")
    assert "1 drivers were busy with rides of another simulation" in done.stderr
    assert "too few drivers" not in done.stderr


@pytest.mark.slow
def test_requests_of_other_simulations_are_counted(seeded_store: Store):
    assert simulate(seeded_store, rides=20, clients=2).others_requests == 0
    other = Thread(target=lambda: simulate(seeded_store, rides=200, clients=2, seed=7))
    other.start()
    done = simulate(seeded_store, seconds=2, clients=2)
    other.join()
    assert 0 < done.others_requests <= 200


@pytest.mark.parametrize("others", [0, 1_000])
def test_busy_riders_are_explained_by_another_simulation(seeded_store: Store, monkeypatch, others: int):
    done = simulate(seeded_store, rides=5, clients=1)
    many = replace(done, requested=100, refused={"rider_busy": 40}, others_requests=others)
    monkeypatch.setattr("oltp.workload.simulate", lambda *arguments, **more: many)
    stderr = ridelake("simulate", "--dsn", seeded_store.conninfo, "--rides", "5").stderr
    reason = "40 requests were refused because the rider was busy: another simulation sent 1,000 requests"
    explained = reason in stderr
    assert explained == bool(others)


def test_a_run_without_answers_has_no_latency(seeded_store: Store):
    done = simulate(seeded_store, rides=5, clients=1)
    silent = replace(done, latency_ms_p50=0.0, latency_ms_p99=0.0, latency_ms_max=0.0)
    assert "latency of a booking: no answers" in silent.lines()
    assert percentiles(Metrics().seen().latencies) == "no answers"


# ── Connections that break ──────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [pytest.param(ONE_BY_ONE, marks=pytest.mark.slow, id="one by one"), pytest.param(BATCH, id="batch")],
)
def test_a_run_survives_and_counts_broken_connections(seeded_store: Store, how: dict):
    results: list[SimulationResult] = []
    run = Thread(target=lambda: results.append(simulate(seeded_store, seconds=3, **how)))
    run.start()
    with seeded_store.connect() as connection:
        for _ in range(3):
            time.sleep(0.8)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    run.join()
    done = results[0]
    assert done.audit.passed, done.audit.verdict
    assert done.retries == sum(done.retried.values()) > 0
    assert done.assigned == done.completed + sum(done.cancelled.values())


@pytest.mark.slow
def test_a_run_survives_a_killed_server_that_is_restarted(tmp_path: Path):
    with open_cluster(tmp_path) as cluster:
        ensure_database(cluster.conninfo("postgres"), "rides")
        store = open_database(cluster.conninfo("rides"))
        seed_rides(store, 500, seed=1)
        results: list[SimulationResult] = []
        run = Thread(target=lambda: results.append(simulate(store, seconds=4, clients=4)))
        run.start()
        time.sleep(1.5)
        pid = cluster.server_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        while cluster.server_pid() is None:
            with suppress(CannotConnect):  # until the child processes of the killed server have ended
                start(cluster)
        run.join()
    assert results[0].audit.passed, results[0].audit.verdict
    assert results[0].retries > 0
    assert results[0].assigned == results[0].completed + sum(results[0].cancelled.values())


# ── The command ─────────────────────────────────────────────────────────────────────────────────


def command(store: Store, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "ridelake", "simulate", "--dsn", store.conninfo, *arguments]


@pytest.mark.slow
def test_the_result_goes_to_stdout_and_the_rest_to_stderr(seeded_store: Store):
    arguments = ("--seconds", "3", "--clients", "4", "--json")
    done = subprocess.run(command(seeded_store, *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"retried", "settled", "behind_seconds", "batch_mean", "seed", "mode"} <= found.keys()
    assert found["audit"]["passed"]
    lines = done.stderr.splitlines()
    assert lines[0].startswith("2 s: ")
    assert "1 s left" in lines[0]
    assert "\x1b" not in done.stderr
    assert lines[-1] == "audit: all 11 conditions hold; the twelfth needs an epoch"


@pytest.mark.slow
@pytest.mark.parametrize("mode", [["--batch"], pytest.param(["--clients", "3"], marks=pytest.mark.slow)])
def test_ctrl_c_ends_the_run_with_its_audit(seeded_store: Store, mode: list[str]):
    running = subprocess.Popen(
        command(seeded_store, "--seconds", "60", "--json", *mode),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    assert running.stderr.readline().startswith("2 s: ")
    running.send_signal(signal.SIGINT)
    out, error = running.communicate(timeout=30)
    assert running.returncode == 130, error
    assert json.loads(out)["interrupted"]
    assert json.loads(out)["audit"]["passed"]
    assert error.splitlines()[-1] == "ridelake: interrupted"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--rides", "5", "--seconds", "5"), "exclude each other"),
        (("--rate", "0"), "--rate"),
        (("--rate", "-1"), "--rate"),
        (("--rate", "1e7"), "at most 1,000,000 requests/s"),
        (("--seconds", "nan"), "must be finite"),
        (("--clients", "0"), "--clients"),
        (("--clients", "151"), "with --batch at most 4,096"),
        (("--clients", "5000", "--batch"), "at most 4,096"),
        (("--seed", "-1"), "--seed"),
    ],
)
def test_an_invalid_option_is_reported_in_one_line(store: Store, arguments: tuple[str, ...], expected: str):
    assert expected in refusal("simulate", "--dsn", store.conninfo, *arguments)


def test_the_live_display_fits_a_terminal_of_any_width(seeded_store: Store):
    states: list[RunState] = []
    simulate(seeded_store, rides=200, clients=2, rate=1_000, show=states.append)
    assert states[-1].auditing
    for columns in (60, 100):
        console = Console(file=io.StringIO(), width=columns, force_terminal=True)
        screen = LiveDisplay()
        for state in states:
            console.print(screen.draw(state))
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        assert "rides/s on average" in text
        assert "behind" in text
