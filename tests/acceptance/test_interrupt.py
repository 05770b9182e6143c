"""A signal at any time ends any command within three seconds, and no process is left.

RIDELAKE_TEST_INTERRUPTS is the number of signals in the slow test; the default is 200.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from terminal import ridelake

MODULE = [sys.executable, "-m", "ridelake"]
SERVER_SECONDS_MAX = 30.0  # a server writes a checkpoint before it exits
SERVER_PROCESSES = ("postgres", "reaper.py", "ps -A ")  # reaper.py monitors the server, and runs ps
SLOW_QUERY = "SELECT count(*) FROM rides a, rides b WHERE a.fare_cents + b.fare_cents = 1"


def end_seconds_max() -> float:
    """Three seconds on an idle machine, multiplied by the load per processor."""
    return 3.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


# The maximum delay of the signal in seconds, and the command.
COMMANDS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (8.0, ("seed", "--rides", "300000", "--seed", "7")),
    (4.0, ("load", "yellow_sample_2019.parquet")),
    (3.0, ("snapshot",)),
    (4.0, ("sync",)),
    (3.0, ("verify",)),
    (5.0, ("simulate", "--seconds", "60")),
    (5.0, ("simulate", "--seconds", "60", "--batch")),
    (15.0, ("demo", "--quick")),
    (3.0, ("sql", SLOW_QUERY, "--engine", "postgres")),
    (3.0, ("sql", SLOW_QUERY, "--engine", "duckdb")),
    (6.0, ("ask", "revenue_by_city_and_month", "--engine", "all")),
    (15.0, ("bench", "--quick", "--record", "record.json")),
    (10.0, ("drill", "--rounds", "1")),
    (5.0, ("acid",)),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 2,000 rides and an epoch. Its server is stopped."""
    home = tmp_path_factory.mktemp("interrupt")
    for arguments in (("seed", "--rides", "2000"), ("snapshot",)):
        assert ridelake(*arguments, folder=home).returncode == 0
    return home


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "command",
    [pytest.param(("seed", "--rides", "300000"), marks=pytest.mark.slow), ("sql", SLOW_QUERY)],
    ids=" ".join,
)
def test_a_signal_ends_a_command(home: Path, command: Sequence[str], number: signal.Signals):
    interrupt(home, command, number, after_seconds=random.uniform(0.5, 2.5))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_signal_at_a_random_moment_ends_every_command(home: Path, real_data: Path):
    for number in range(int(os.environ.get("RIDELAKE_TEST_INTERRUPTS", "200"))):
        seconds_max, command = COMMANDS[number % len(COMMANDS)]
        command = tuple(str(real_data / part) if part.endswith(".parquet") else part for part in command)
        sent = random.choice([signal.SIGINT, signal.SIGINT, signal.SIGTERM])
        interrupt(home, command, sent, after_seconds=random.uniform(0.0, seconds_max))
    for command in (("audit",), ("snapshot",), ("verify",)):
        done = subprocess.run([*MODULE, *command], cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


HANGS = """
import os, signal, sys, threading, time
import ridelake.__main__ as front_door

def command(*_, **__):
    if "write" in sys.argv:
        write()
    taken = threading.Lock()
    taken.acquire()
    signal.raise_signal(signal.SIGTERM) if "raise" in sys.argv else print("ready", flush=True)
    while True:
        try:
            taken.acquire()
        except KeyboardInterrupt:
            pass

def write():
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        while True:
            os.write(2, b"a message\\n")

front_door.ridelake.main = command
front_door.main()
"""


def test_a_command_that_ignores_the_interrupt_ends_after_the_grace_period():
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGS, "raise"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "ridelake: interrupted\n")
    assert time.monotonic() - began < end_seconds_max()


def test_the_last_line_reports_the_interrupt_even_if_the_command_writes_messages():
    done = subprocess.run([sys.executable, "-c", HANGS, "write"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM
    assert set(done.stderr.splitlines()[:-1]) == {"a message"}
    assert done.stderr.splitlines()[-1] == "ridelake: interrupted"


def test_a_second_signal_ends_the_process_without_the_grace_period():
    running = subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    running.send_signal(signal.SIGINT)
    time.sleep(0.2)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, output = running.communicate(timeout=60)
    assert (running.returncode, output) == (130, b"ridelake: interrupted\n")
    assert time.monotonic() - began < 1.0


def interrupt(home: Path, command: Sequence[str], number: signal.Signals, *, after_seconds: float) -> None:
    """Start the command, send the signal, and check how it ends."""
    token = uuid4().hex
    what = f"{' '.join(command)}: {number.name} after {after_seconds:.2f} s"
    running = subprocess.Popen(
        [*MODULE, *command],
        cwd=home,
        env={**os.environ, "RIDELAKE_TEST_TOKEN": token},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while not _handles(running.pid, signal.SIGTERM) and running.poll() is None:
            time.sleep(0.005)
        with suppress(subprocess.TimeoutExpired):
            running.wait(after_seconds)
        ended_before = running.poll() is not None
        running.send_signal(number)
        began = time.monotonic()
        try:
            _, output = running.communicate(timeout=end_seconds_max())
        except subprocess.TimeoutExpired:
            pytest.fail(f"{what}: still running after {end_seconds_max()} s")
        # The exit code is 0 if the command was complete when the signal arrived.
        if not ended_before and running.returncode != 0:
            assert running.returncode == 128 + number, f"{what}: {running.returncode}, {output}"
            assert output.rstrip().splitlines()[-1] == "ridelake: interrupted", f"{what}: {output}"
        assert not any(word in output for word in ("Traceback", "ignored", "panicked", "internal error")), (
            f"{what}: {output}"
        )
        assert_nothing_is_left(home, token, what, began + SERVER_SECONDS_MAX)
    finally:
        for process in _with_token(token):
            process.kill()
        running.communicate()


def assert_nothing_is_left(home: Path, token: str, what: str, until: float) -> None:
    """Check that only servers and their monitor processes are left, and that these end before `until`."""
    time.sleep(0.3)
    others = [name for name in _names(token) if not any(part in name for part in SERVER_PROCESSES)]
    assert others == [], f"{what}: {others}"
    while (left := _names(token)) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == [], f"{what}: {left}; {_server_log(home)}"


def _names(token: str) -> list[str]:
    return [" ".join(process.info["cmdline"] or []) for process in _with_token(token)]


def _server_log(home: Path) -> str:
    """The last messages of the servers, for the report of a failure."""
    return "\n".join(log.read_text()[-3000:] for log in home.rglob("server.log"))


def _with_token(token: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            if process.environ().get("RIDELAKE_TEST_TOKEN") == token:
                found.append(process)
    return found


def _handles(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)
