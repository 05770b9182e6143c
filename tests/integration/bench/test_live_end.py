"""`ridelake live` leaves no process and no schema change, even if it is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from live_page import SECONDS_MAX, LivePage, address_of, running_live
from terminal import refusal, ridelake

from oltp.cluster.server import Cluster, open_cluster

pytestmark = pytest.mark.child

SERVER_SECONDS_MAX = 60.0  # a server writes a checkpoint before it exits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small store and an epoch. Its server is stopped."""
    folder = tmp_path_factory.mktemp("live-end")
    for arguments in (("seed", "--rides", "2000"), ("snapshot",)):
        assert ridelake(*arguments, folder=folder).returncode == 0
    return folder


def end_seconds_max() -> float:
    """Three seconds on an idle machine, multiplied by the load per processor."""
    return 3.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def processes_of(running: "subprocess.Popen[str]") -> list[psutil.Process]:
    own = psutil.Process(running.pid)
    return [own, *own.children(recursive=True)]


def wait_until_ended(processes: list[psutil.Process], seconds: float) -> None:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert alive == []


def wait_until_server_stopped(folder: Path) -> None:
    cluster = Cluster(folder / ".ridelake" / "postgres")
    give_up = time.monotonic() + SERVER_SECONDS_MAX
    while cluster.server_pid() is not None:
        assert time.monotonic() < give_up, "the server is still running"
        time.sleep(0.1)


def ready_page(url: str) -> LivePage:
    page = LivePage(url)
    page.wait_for(lambda state: {"load", "sync", "question", "contrast", "index"} <= set(state), 120)
    page.wait_for(lambda state: state["load"]["booked"] > 0)
    return page


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_all_processes_and_undoes_the_changes(folder: Path, number: signal.Signals):
    with running_live(folder) as (running, url):
        page = ready_page(url)
        page.accept("question", {"engine": "polars", "target": "columns"})
        page.accept("index", {"covering": True})
        page.wait_for(lambda state: state["index"]["covering"] == "present")
        page.accept("index", {"drivers_by_stand": False})
        page.wait_for(lambda state: state["index"]["dropped"])
        processes = processes_of(running)
        began = time.monotonic()
        running.send_signal(number)
        _, output = running.communicate(timeout=SECONDS_MAX)
        assert time.monotonic() - began < end_seconds_max()
        wait_until_ended(processes, end_seconds_max())
    assert running.returncode == 128 + number
    assert output.splitlines()[-1] == "ridelake: interrupted"
    assert "Traceback" not in output
    wait_until_server_stopped(folder)
    if number == signal.SIGINT:  # after SIGTERM, the next run may undo the changes
        assert_restored(folder)


@pytest.mark.slow
def test_a_kill_leaves_no_process_and_the_next_run_undoes_the_changes(folder: Path):
    with running_live(folder) as (running, url):
        page = ready_page(url)
        page.accept("question", {"engine": "polars", "target": "columns"})
        page.accept("index", {"drivers_by_stand": False})
        page.wait_for(lambda state: state["index"]["dropped"])
        page.accept("crash", {})  # while a child process starts the server
        page.wait_for(lambda state: state["crash"]["state"] == "down")
        processes = processes_of(running)
        running.kill()
        running.communicate()
        wait_until_ended(processes, SECONDS_MAX)
    wait_until_server_stopped(folder)
    with running_live(folder) as (_, url):
        page = ready_page(url)
        assert page.state["index"]["dropped"] == []
    wait_until_server_stopped(folder)
    assert_restored(folder)


def assert_restored(folder: Path) -> None:
    with (
        open_cluster(folder / ".ridelake") as cluster,
        psycopg.connect(cluster.conninfo("ridelake"), options="-c search_path=ridelake") as connection,
    ):
        found = connection.execute(
            "SELECT to_regclass('live_covering'), to_regclass('drivers_by_stand') IS NOT NULL,"
            " to_regnamespace('ridelake_live')"
        ).fetchone()
    assert found == (None, True, None)


def test_a_port_in_use_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refusal("live", "--port", str(port))
    assert f"cannot listen on port {port}" in message
    assert "--port" in message
    assert not (tmp_path / ".ridelake").exists(), "files were created before the port was checked"


WITHOUT_STARLETTE = """
import sys
sys.modules["starlette"] = None
sys.argv = ["ridelake", "live"]
from ridelake.__main__ import main
main()
"""


@pytest.mark.slow
def test_without_its_packages_the_command_names_the_extra(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_STARLETTE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "ridelake: starlette is not installed: `pip install 'ridelake[live]'`\n"
    assert not (tmp_path / ".ridelake").exists()


@pytest.mark.slow
def test_a_second_program_on_the_same_store_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    with running_live(folder) as (_, url):
        assert "another `ridelake live` uses the store" in refusal("live", "--port", "0")
        assert ready_page(url).state["workers"] == {}


@pytest.mark.slow
def test_the_server_listens_on_the_loopback_interface_only(folder: Path):
    with running_live(folder) as (running, url):
        listening = {
            connection.laddr.ip
            for process in processes_of(running)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", address_of(url)[1]), timeout=5)
