"""One server of the pair: create, copy, start, kill, fence, rewind.

    NODE/data      the database cluster
    NODE/fenced    the same, while it must not be started: `postgres -D NODE/data` fails

A server that returns after its standby was promoted is a second primary: it acknowledges commits that will be
discarded. So it is fenced before the standby is promoted: its data folder is renamed, and nothing that uses
the old path can start it.
"""

import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from oltp.cluster.process import CAUSE, run, server_account
from oltp.cluster.server import Cluster, start
from ridelake.errors import CannotConnect
from ridelake.queries import load_queries

QUERIES = load_queries("oltp.cluster")

# In addition to the settings of every embedded server.
SETTINGS = {
    "shared_buffers": "128MB",  # two of them share the machine
    "max_wal_size": "1GB",
    "wal_retrieve_retry_interval": "100ms",  # the default, 5 s, is longer than a round of the drill
    # A killed server does not free its shared memory. With mmap it is in the data folder and is deleted with
    # it.
    "dynamic_shared_memory_type": "mmap",
}
KILL_SECONDS_MAX = 20.0
CONNECT_SECONDS_MAX = 5  # the kernel still accepts connections for a server that hangs


@dataclass(frozen=True, slots=True)
class ServerNode:
    """`name` is also its application_name, and the name of its replication slot."""

    name: str
    folder: Path

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.folder)

    @property
    def conninfo(self) -> str:
        """A connection string for the maintenance database, as superuser."""
        return self.cluster.conninfo("postgres")

    @property
    def fenced(self) -> Path:
        """The data folder while the server must not be started."""
        return self.folder / "fenced"

    def connect(self) -> Connection[TupleRow]:
        return psycopg.connect(self.conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS_MAX)

    def start(self, upstream: str, settings: Mapping[str, str] = SETTINGS) -> None:
        """Start the server. A standby follows the server `upstream`, a connection string. If the folder is
        empty, create a new primary.

        Raises CannotConnect if it is fenced, or cannot be started."""
        if self.fenced.exists():
            raise CannotConnect(
                f"{self.name} is fenced: another server was promoted in its place; rejoin it as a standby "
                "with "
                "pg_rewind"
            )
        self.folder.mkdir(exist_ok=True)
        following = make_conninfo(upstream, application_name=self.name)
        ours = {"cluster_name": self.name, "primary_conninfo": following, "primary_slot_name": self.name}
        try:
            start(self.cluster, {**settings, **ours})
        except CannotConnect as error:  # quote the log, which is deleted with the folder
            raise CannotConnect(f"{self.name} did not start: {self._cause_in_log()}") from error

    def keep_log(self) -> None:
        """Set wal_keep_size in the configuration, which is copied to the standby. pg_rewind starts a killed
        server for crash recovery, which must not remove the WAL since the two servers diverged."""
        with self.connect() as connection:
            connection.execute("ALTER SYSTEM SET wal_keep_size = '256MB'")
            connection.execute("SELECT pg_reload_conf()")

    def copy(self, primary: str) -> None:
        """Copy the server `primary`, a connection string; the copy is started as its standby."""
        self.folder.mkdir()
        source = ["-d", primary, "--create-slot", "--slot", self.name, "--wal-method=stream"]
        self._run("pg_basebackup", ["-D", self.cluster.data, *source, "--checkpoint=fast", "--no-sync"])
        self._follow(self.cluster.data)

    def kill(self) -> None:
        """SIGKILL the whole process tree. The postmaster first, because it could restart the others."""
        pid = self.cluster.server_pid()
        if pid is None:
            return
        server = psutil.Process(pid)
        tree = [server, *server.children(recursive=True)]
        for process in tree:
            _kill(process)
        _wait_until_dead(tree)

    def end(self) -> None:
        """Postgres' "immediate" shutdown, which frees shared memory; SIGKILL if that fails."""
        pid = self.cluster.server_pid()
        if pid is None:
            return
        server = psutil.Process(pid)
        with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            server.send_signal(signal.SIGQUIT)
            server.wait(KILL_SECONDS_MAX)
        self.kill()

    def fence(self) -> None:
        """Kill its remaining processes and rename its data folder, so that it cannot be started; also if a
        supervisor has restarted it in the meantime."""
        self.kill()
        self._kill_in(self.cluster.data)
        self.cluster.data.rename(self.fenced)
        self._kill_in(self.fenced)  # a supervisor may have started it just before the rename
        # A zombie counts as a running process to Postgres, so the pid file must be removed.
        (self.fenced / "postmaster.pid").unlink(missing_ok=True)
        (self.cluster.socket_folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _kill_in(self, data: Path) -> None:
        """Kill the servers that work in `data`, including children of a dead postmaster, which live on
        briefly."""
        for process in psutil.process_iter(["name"]):
            if process.info["name"] == "postgres":
                try:
                    if Path(process.cwd()) == data:
                        _kill(process)
                        _wait_until_dead([process])
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue

    def rewind(self, primary: "ServerNode") -> None:
        """Discard what `primary` does not have, and remove the fence: the server can be started as its
        standby."""
        self._run("pg_rewind", ["-D", self.fenced, "--source-server", primary.conninfo, "--no-sync"])
        self._follow(self.fenced)
        self.fenced.rename(self.cluster.data)

    def _cause_in_log(self) -> str:
        log = self.cluster.log
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        lines = lines or ["its log is empty"]
        return next((line for line in reversed(lines) if CAUSE.search(line)), lines[-1])

    def _follow(self, data: Path) -> None:
        (data / "standby.signal").touch()

    def _run(self, program: str, arguments: list[str | Path]) -> None:
        account = server_account(self.folder, self.fenced if self.fenced.exists() else self.cluster.data)
        run(account, program, arguments, f"{program} of {self.name} failed")


def follows(primary: Connection[TupleRow], name: str, column: str, wanted: str) -> bool:
    """Whether pg_stat_replication of the primary has `wanted` in `column` (state or sync_state) for the
    standby."""
    query = QUERIES["replication"]
    row = primary.execute(query, {"name": name}).fetchone()
    return row is not None and row[("state", "sync_state").index(column)] == wanted


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):  # it ended by itself when another process died
        process.kill()


def _wait_until_dead(processes: Iterable[psutil.Process]) -> None:
    """A zombie counts as dead: its parent has not reaped it yet."""
    give_up = time.monotonic() + KILL_SECONDS_MAX
    while any(_lives(process) for process in processes):
        if time.monotonic() > give_up:
            raise CannotConnect("a server process did not end after SIGKILL: it waits for the disk")
        time.sleep(0.002)


def _lives(process: psutil.Process) -> bool:
    try:
        alive: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return alive
