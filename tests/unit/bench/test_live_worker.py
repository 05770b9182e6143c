"""A worker of `ridelake live`: its settings survive a restart, and it ends with its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import psutil
import pytest
from live_page import SECONDS_MAX, echo

from bench.live.worker import Worker, stop_workers
from ridelake.errors import RidelakeError

pytestmark = pytest.mark.child

PARENT = """
import sys, time
from live_page import echo
from bench.live.worker import Worker
if __name__ == "__main__":
    report = lambda part, value: print(worker.process_id, flush=True)
    worker = Worker("echo", echo, (), report, lambda *_: None)
    worker.start()
    time.sleep(600)
"""


class Watched:
    """A worker whose child process executes `echo`, with a record of its reports."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, Any]] = []
        self.troubles: list[str | None] = []
        self._changed = threading.Condition()
        self.worker = Worker("echo", echo, (), self._report, self._trouble)

    def _report(self, part: str, value: Any) -> None:
        with self._changed:
            self.reports.append((part, value))
            self._changed.notify_all()

    def _trouble(self, name: str, line: str | None) -> None:
        with self._changed:
            self.troubles.append(line)
            self._changed.notify_all()

    def wait_for(self, report: tuple[str, Any], times: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.reports.count(report) >= times, SECONDS_MAX), (
                self.reports
            )


def test_a_worker_that_dies_is_reported_and_started_again_with_its_settings():
    watched = Watched()
    watched.worker.set(clients=8, paused=False)
    watched.worker.start()
    try:
        watched.wait_for(("settings", {"clients": 8, "paused": False}))
        watched.worker.set(paused=True)
        watched.wait_for(("settings", {"clients": 8, "paused": True}))
        watched.worker.call("crash", now=True)
        watched.wait_for(("crash", {"now": True}))
        for times, number in enumerate((signal.SIGKILL, signal.SIGTERM), start=2):
            os.kill(watched.worker.process_id, number)
            watched.wait_for(("settings", {"clients": 8, "paused": True}), times)
            assert f"the echo process ended ({number.name})" in (watched.troubles[-2] or "")
            assert watched.troubles[-1] is None
        assert watched.reports.count(("crash", {"now": True})) == 1, (
            "a command was executed again after the restart"
        )
    finally:
        stop_workers([watched.worker])
    assert not psutil.pid_exists(watched.worker.process_id)


def test_stopping_before_the_child_has_started_leaves_no_process():
    watched = Watched()
    watched.worker.start()
    stop_workers([watched.worker])
    time.sleep(0.1)
    assert watched.worker.process_id is None or not psutil.pid_exists(watched.worker.process_id)


def test_a_child_ends_by_itself_after_its_parent_was_killed():
    path = os.pathsep.join(entry for entry in sys.path if entry)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    child.wait(SECONDS_MAX)


def test_a_child_that_reads_no_commands_refuses_them_and_is_stopped():
    watched = Watched()
    watched.worker.start()
    watched.wait_for(("settings", {}))
    process = psutil.Process(watched.worker.process_id)
    process.suspend()
    with pytest.raises(RidelakeError, match="the echo process is busy: try again"):
        for _ in range(100):
            watched.worker.set(sql="x" * 20_000)
    began = time.monotonic()
    stop_workers([watched.worker])
    assert time.monotonic() - began < SECONDS_MAX
    assert not process.is_running()
