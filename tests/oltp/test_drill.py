"""The drill: the primary dies under load, and nothing acknowledged is lost; or it is, and that is shown."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from oltp.drill.pair import Pair, open_pair
from oltp.drill.result import Drilled
from oltp.drill.rounds import drill
from oltp.drill.standby_dies import standby_dies
from oltp.drill.watch import HANG_SECONDS_MAX, Watchdog
from oltp.store import ensure_database
from ridelake.__main__ import _run
from ridelake.errors import CannotConnect


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder whose path is short enough for a socket; a drill leaves nothing in it."""
    folder = Path(tempfile.mkdtemp(prefix="drills-"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def pair(temporary: Path) -> Iterator[Pair]:
    with open_pair(synchronous=True, prepare=lambda conninfo: ensure_database(conninfo, "rides")) as pair:
        yield pair


def servers_in(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["pid", "name", "cwd", "status"]):
        where = process.info["cwd"] or ""
        if process.info["name"] == "postgres" and where.startswith(str(folder)):
            found.append(process.info["pid"])
    return found


def assert_nothing_is_left(folder: Path, seconds: float = 0.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and (servers_in(folder) or list(folder.iterdir())):
        time.sleep(0.1)
    assert servers_in(folder) == []
    assert list(folder.iterdir()) == []


def assert_nothing_is_lost(done: Drilled, rounds: int) -> None:
    found = done.findings
    assert len(done.rounds) == rounds
    assert (found.lost, found.undone, found.doubled) == ([], [], [])
    assert found.settled == found.in_doubt
    assert found.acknowledged >= 10 * rounds
    assert done.audit.passed
    assert done.passed


def test_the_primary_is_killed_twice_under_load_and_nothing_is_lost(
    temporary: Path, capsys: pytest.CaptureFixture[str]
):
    done = drill(rounds=2, seed=3)
    assert_nothing_is_lost(done, rounds=2)
    assert [(one.killed, one.promoted) for one in done.rounds] == [("a", "b"), ("b", "a")]
    assert done.findings.in_doubt > 0  # else the kills hit nobody
    assert_nothing_is_left(temporary)
    with capsys.disabled():
        print("", *(one.line() for one in done.rounds), *done.lines(), sep="\n  ")


@pytest.mark.slow
def test_without_waiting_for_the_standby_the_loss_is_found_and_shown(
    temporary: Path, capsys: pytest.CaptureFixture[str]
):
    assert _run(["drill", "--async", "--rounds", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["standby"] == "asynchronous"
    assert not report["passed"]
    assert report["lost"] == len(report["lost_ids"]) > 0
    assert report["audit"]["passed"]  # what is left is a state that the store was in
    assert_nothing_is_left(temporary)


@pytest.mark.slow
def test_a_dead_standby_blocks_and_does_not_lie_until_it_is_taken_off(temporary: Path):
    done = standby_dies(seed=5)
    assert done.answered_while_blocked == 0
    assert done.waiting > 0
    assert (done.broken_off, done.doubted) == (1, 1)
    assert done.answered_unprotected > 0
    assert done.findings.nothing_lost
    assert done.passed
    assert_nothing_is_left(temporary)


def test_a_fenced_primary_cannot_come_back_but_as_a_standby(pair: Pair):
    old = pair.primary
    old.kill()
    pair.fail_over()
    assert pair.primary is not old
    with pytest.raises(CannotConnect, match=r"a is fenced.*pg_rewind"):
        old.start(pair.primary.conninfo)
    assert not old.cluster.data.exists()
    pair.rejoin()
    with old.connect() as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
    assert pair.protected


@pytest.mark.slow
def test_what_the_old_primary_alone_had_is_gone_after_its_rewind(pair: Pair):
    old = pair.primary
    with old.connect() as connection:
        sender = connection.execute("SELECT pid FROM pg_stat_replication").fetchone()
        assert sender is not None
        psutil.Process(sender[0]).suspend()  # nothing reaches the standby any more
        connection.execute("SET synchronous_commit = local")
        connection.execute("CREATE TABLE on_one_disk ()")
    old.kill()
    pair.fail_over()
    pair.rejoin()
    for node in (pair.primary, old):
        with node.connect() as connection:
            assert connection.execute("SELECT to_regclass('on_one_disk')").fetchone() == (None,)


def test_a_standby_that_nobody_waited_for_is_not_promoted(pair: Pair):
    pair.degrade()
    pair.primary.kill()
    with pytest.raises(CannotConnect, match="b is not promoted: it was not awaited"):
        pair.fail_over()
    assert not pair.primary.fenced.exists()  # it can be started again, and has all


@pytest.mark.slow
def test_a_primary_that_hangs_is_killed_before_another_one_leads(pair: Pair):
    pid = pair.primary.cluster.server_pid()
    watchdog = Watchdog(pair)
    try:
        time.sleep(0.3)
        server = psutil.Process(pid)
        for process in [server, *server.children(recursive=True)]:
            process.suspend()
        assert watchdog.wait(HANG_SECONDS_MAX * 2 + 30) is not None
    finally:
        watchdog.close()
    assert pair.primary.name == "b"
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_a_drill_that_is_broken_off_leaves_no_server_and_no_folder(temporary: Path, ended_by: signal.Signals):
    running = subprocess.Popen(
        [sys.executable, "-m", "ridelake", "drill", "--rounds", "50"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    )
    assert running.stderr is not None
    assert "round 1" in running.stderr.readline()
    assert len(servers_in(temporary)) > 2
    running.send_signal(ended_by)
    running.communicate(timeout=60)
    assert running.returncode == (130 if ended_by is signal.SIGINT else -signal.SIGKILL)
    assert_nothing_is_left(temporary, seconds=0.0 if ended_by is signal.SIGINT else 30.0)


def test_a_drill_that_fails_leaves_no_server_and_no_folder(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*of_it: object) -> None:
        raise CannotConnect("as if")

    monkeypatch.setattr(Pair, "rejoin", fails)
    with pytest.raises(CannotConnect, match="as if"):
        drill(rounds=1)
    assert_nothing_is_left(temporary)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dsn", "host=nowhere"], "only ones that it has made itself"),
        (["--standby-dies", "--async"], "a drill of its own"),
        (["--standby-dies", "--rounds", "2"], "a drill of its own"),
    ],
)
def test_words_that_do_not_fit_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert _run(["drill", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_failovers_in_a_row_lose_nothing(
    temporary: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
):
    done = drill(rounds=20, seed=random.randrange(10**6))
    lines = [*(one.line() for one in done.rounds), *done.lines()]
    record_property("drill", lines)
    with capsys.disabled():
        print("", *lines, sep="\n  ")
    assert_nothing_is_lost(done, rounds=20)
    assert done.longest_gap_seconds_median <= 1.0
    assert_nothing_is_left(temporary)
