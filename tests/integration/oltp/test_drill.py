"""The drill: failovers under load lose no acknowledged request. With an asynchronous standby the loss is
reported."""

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
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from oltp.audit import AuditReport
from oltp.cluster import reaper
from oltp.cluster.server import Cluster, start
from oltp.drill import failover
from oltp.drill.clients import ClientLog, ReconcileResult
from oltp.drill.failover import DrillResult, FailoverResult, drill_standby, run_drill
from oltp.drill.pair import HANG_SECONDS_MAX, Promotion, ServerPair, Watchdog, open_pair
from oltp.store import ensure_database
from ridelake.__main__ import _run
from ridelake.errors import CannotConnect

REQUEST = UUID(int=7)
FAILOVERS = int(os.environ.get("RIDELAKE_TEST_CRASHES", "25"))  # in the longest test
TOO_LONG_FOR_A_SOCKET = "with blanks " * 8 + "too"


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder with a path that is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="drills-"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def pair(temporary: Path) -> Iterator[ServerPair]:
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


def assert_nothing_is_lost(done: DrillResult, rounds: int) -> None:
    found = done.findings
    assert len(done.rounds) == rounds
    assert (found.lost, found.undone, found.doubled) == ([], [], [])
    assert found.settled == found.in_doubt
    assert found.acknowledged >= 10 * rounds
    assert done.audit.passed
    assert done.passed


@pytest.mark.slow
def test_two_failovers_under_load_lose_nothing(temporary: Path, capsys: pytest.CaptureFixture[str]):
    done = run_drill(rounds=2, seed=3)
    assert_nothing_is_lost(done, rounds=2)
    assert [(one.killed, one.promoted) for one in done.rounds] == [("a", "b"), ("b", "a")]
    assert done.findings.in_doubt > 0  # otherwise no kill interrupted a request
    assert_nothing_is_left(temporary)
    with capsys.disabled():
        print("", *(one.line() for one in done.rounds), *done.lines(), sep="\n  ")


@pytest.mark.slow
def test_with_an_asynchronous_standby_the_loss_is_found_and_reported(
    temporary: Path, capsys: pytest.CaptureFixture[str]
):
    assert _run(["drill", "--async", "--rounds", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["standby"] == "asynchronous"
    assert not report["passed"]
    assert report["lost"] == len(report["lost_ids"]) > 0
    assert report["audit"]["passed"]  # the store has an earlier, consistent state
    assert_nothing_is_left(temporary)


@pytest.mark.slow
def test_a_dead_standby_blocks_commits_until_it_is_removed(temporary: Path):
    done = drill_standby(seed=5)
    assert done.answered_while_blocked == 0
    assert done.waiting > 0
    assert (done.cancelled_waits, done.retried) == (1, 1)
    assert done.answered_unprotected > 0
    assert done.findings.nothing_lost
    assert done.passed
    assert_nothing_is_left(temporary)


def test_a_fenced_primary_can_only_return_as_a_standby(pair: ServerPair):
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
def test_a_primary_that_is_restarted_while_it_is_fenced_is_killed(
    pair: ServerPair, monkeypatch: pytest.MonkeyPatch
):
    old, revived = pair.primary, []
    rename = Path.rename

    def restart_before_rename(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        assert start(old.cluster)
        revived.append(old.cluster.server_pid())
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", restart_before_rename)
    old.kill()
    pair.fail_over()
    assert len(revived) == 1
    assert not [pid for pid in servers_in(old.folder) if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    pair.rejoin()
    assert pair.protected


@pytest.mark.slow
def test_a_primary_that_hung_and_was_replaced_before_the_kill_rejoins(
    pair: ServerPair, monkeypatch: pytest.MonkeyPatch
):
    """The kill must not hit the new primary, which has no standby yet."""

    class PromotedBeforeKill(Watchdog):
        def __init__(self, pair: ServerPair) -> None:
            noticed = time.perf_counter()
            pair.fail_over()
            self.promotion = Promotion(noticed, time.perf_counter())

        def wait(self, seconds: float) -> Promotion:
            return self.promotion

        def close(self) -> None:
            pass

    monkeypatch.setattr(failover, "Watchdog", PromotedBeforeKill)
    done = failover._round(1, pair, ClientLog(), load_seconds=0.0)
    assert (done.killed, done.hung, done.promoted, done.noticed_seconds) == ("a", True, "b", 0.0)
    assert "a hung, and was killed" in done.line()
    assert (pair.primary.name, pair.protected) == ("b", True)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="/proc/self/maps does not exist")
@pytest.mark.slow
def test_a_killed_server_leaves_no_shared_memory(pair: ServerPair):
    for node in (pair.primary, pair.standby):
        mapped = Path(f"/proc/{node.cluster.server_pid()}/maps").read_text()
        assert str(node.cluster.data) in mapped  # the shared memory is a file in the data folder
        assert "/dev/shm/PostgreSQL." not in mapped


@pytest.mark.slow
def test_commits_that_only_the_old_primary_had_are_discarded_by_its_rewind(pair: ServerPair):
    old = pair.primary
    with old.connect() as connection:
        sender = connection.execute("SELECT pid FROM pg_stat_replication").fetchone()
        assert sender is not None
        psutil.Process(sender[0]).suspend()  # the standby receives no WAL
        connection.execute("SET synchronous_commit = local")
        connection.execute("CREATE TABLE on_one_disk ()")
    old.kill()
    pair.fail_over()
    pair.rejoin()
    for node in (pair.primary, old):
        with node.connect() as connection:
            assert connection.execute("SELECT to_regclass('on_one_disk')").fetchone() == (None,)


@pytest.mark.slow
def test_a_standby_that_was_not_synchronous_is_not_promoted(pair: ServerPair):
    pair.degrade()
    pair.primary.kill()
    with pytest.raises(CannotConnect, match="cannot promote b: it was not synchronous"):
        pair.fail_over()
    assert not pair.primary.fenced.exists()  # not fenced, because it has all commits and can be restarted


@pytest.mark.slow
def test_a_primary_that_hangs_is_killed_before_the_standby_is_promoted(pair: ServerPair):
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
@pytest.mark.parametrize(
    ("ended_by", "inside"),
    [
        (signal.SIGINT, ""),
        (signal.SIGKILL, ""),
        (signal.SIGKILL, TOO_LONG_FOR_A_SOCKET),
    ],
    ids=["Ctrl-C", "SIGKILL", "SIGKILL, sockets elsewhere"],
)
def test_an_interrupted_drill_leaves_no_server_and_no_folder(
    temporary: Path, ended_by: signal.Signals, inside: str
):
    temporary = temporary / inside
    temporary.mkdir(exist_ok=True)
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
    sockets = [Cluster(folder).socket_folder for folder in temporary.glob("*/[ab]")]
    assert len(sockets) == 2
    running.send_signal(ended_by)
    running.communicate(timeout=60)
    assert running.returncode == (130 if ended_by is signal.SIGINT else -signal.SIGKILL)
    assert_nothing_is_left(temporary, seconds=0.0 if ended_by is signal.SIGINT else 30.0)
    assert not [socket for socket in sockets if socket.exists()]


@pytest.mark.parametrize(
    ("args", "ended"),
    [
        ("/home/my user/bin/postgres -D /tmp/it/a/data", True),
        ("/usr/bin/pg_rewind -D /tmp/it/a/fenced --no-sync", True),
        ('/bin/sh -c exec "/usr/bin/postgres" -D "/tmp/it/a/data" -k /s < "/dev/null"', True),  # of pg_ctl
        ("postgres: b: walreceiver streaming 0/3000000", False),  # ends with its parent process
        ("/usr/bin/postgres -D /tmp/it2/a/data", False),
        ("/usr/bin/tail -f /tmp/it/a/server.log", False),
    ],
)
def test_the_monitor_process_ends_only_the_servers_of_its_folder(
    args: str, ended: bool, monkeypatch: pytest.MonkeyPatch
):
    listed = subprocess.CompletedProcess([], 0, stdout=f"  123 {args}\n")
    monkeypatch.setattr(reaper.subprocess, "run", lambda *words, **options: listed)
    assert reaper.working_in(Path("/tmp/it")) == ([123] if ended else [])


@pytest.mark.slow
def test_a_failed_drill_leaves_no_server_and_no_folder(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object) -> None:
        raise CannotConnect("injected")

    monkeypatch.setattr(ServerPair, "rejoin", fail)
    with pytest.raises(CannotConnect, match="injected"):
        run_drill(rounds=1)
    assert_nothing_is_left(temporary)


def test_a_disk_that_is_too_small_is_reported_before_the_drill_begins(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("oltp.drill.pair.FREE_BYTES_MIN", 1 << 60)
    assert _run(["drill"]) == 3
    assert f"{temporary} has" in capsys.readouterr().err
    assert_nothing_is_left(temporary)


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["--dsn", "host=nowhere"], "leave out --dsn and RIDELAKE_DSN"),
        (["--standby-dies", "--async"], "--standby-dies cannot be used with"),
        (["--standby-dies", "--rounds", "2"], "--standby-dies cannot be used with"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    words: list[str], output: str, capsys: pytest.CaptureFixture[str]
):
    assert _run(["drill", *words]) == 2
    assert output in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "found", "status"),
    [
        ([], {}, 0),
        ([], {"lost": [REQUEST]}, 1),
        (["--async"], {"lost": [REQUEST]}, 0),
        (["--async"], {"doubled": [REQUEST]}, 1),
        (["--async"], {"in_doubt": 2}, 1),
    ],
)
def test_only_a_loss_with_a_synchronous_standby_fails_the_drill(
    words: list[str],
    found: dict[str, object],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    nothing = ReconcileResult(
        acknowledged=9, rides_ended=9, lost=[], undone=[], doubled=[], in_doubt=1, settled=1
    )
    one = FailoverResult(1, "a", False, "b", 9, 0.1, 0.1, 0.1, 1.0)

    def done(*, synchronous: bool, clients: int, seed: int, **more: object) -> DrillResult:
        lag_seconds = None if synchronous else 0.1
        seen = replace(nothing, **found)
        return DrillResult((one,), seen, AuditReport((), 0.1), clients, seed, synchronous, lag_seconds, 1.0)

    monkeypatch.setattr(failover, "run_drill", done)
    assert _run(["drill", *words]) == status
    assert ("the drill failed" in capsys.readouterr().err) is bool(status)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_failovers_lose_nothing(
    temporary: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
):
    done = run_drill(rounds=FAILOVERS, seed=random.randrange(10**6))
    lines = [*(one.line() for one in done.rounds), *done.lines()]
    record_property("drill", lines)
    with capsys.disabled():
        print("", *lines, sep="\n  ")
    assert_nothing_is_lost(done, rounds=FAILOVERS)
    assert done.longest_gap_seconds_median <= 1.0
    assert_nothing_is_left(temporary)
