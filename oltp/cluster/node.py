"""Servers in a temporary folder: create, copy, start, kill, fence, rewind.

    NODE/data      the database cluster
    NODE/fenced    the same, while it must not be started: `postgres -D NODE/data` fails

A server that returns after its standby was promoted is a second primary: it acknowledges commits that will be
discarded. So it is fenced before the standby is promoted: its data folder is renamed, and nothing that uses
the old path can start it.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from oltp.cluster.process import CAUSE, end_all_in, run, server_account, spawn_reaper
from oltp.cluster.server import Cluster, clear_after_a_kill, kill_server, start
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
WAIT_SECONDS_MAX = 60.0
SHUTDOWN_SECONDS_MAX = 0.5  # of a temporary server; after Ctrl-C the whole process has about one second
CONNECT_SECONDS_MAX = 5  # needed because the kernel accepts connections for a server that hangs


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
                "with pg_rewind"
            )
        self.folder.mkdir(exist_ok=True)
        following = make_conninfo(upstream, application_name=self.name)
        ours = {"cluster_name": self.name, "primary_conninfo": following, "primary_slot_name": self.name}
        try:
            start(self.cluster, {**settings, **ours})
        except CannotConnect as error:  # include the log in the message; it is deleted with the folder
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
        """SIGKILL the whole process tree."""
        kill_server(self.cluster)

    def fence(self) -> None:
        """Kill its remaining processes and rename its data folder, so that it cannot be started. A server
        that a supervisor has restarted in the meantime is also killed."""
        self.kill()
        clear_after_a_kill(self.cluster.data, self.cluster.socket_folder)
        self.cluster.data.rename(self.fenced)
        # A supervisor may have started it just before the rename.
        clear_after_a_kill(self.fenced, self.cluster.socket_folder)

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


@contextmanager
def server_folder() -> Iterator[Path]:
    """A new folder, with a subfolder for each server. When the block is left, all processes in it are ended
    and the folder is deleted; if this process is killed, a monitor process does that.

    Raises CannotConnect if a process keeps writing to the folder."""
    # Resolved, because processes are found by their working directory, which contains no symbolic links.
    folder = Path(tempfile.mkdtemp(prefix="ridelake-drill-")).resolve()
    lock = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spawn_reaper(folder, "delete")
        yield folder
    finally:
        # They are outside of the folder if TMPDIR is long.
        sockets = [Cluster(inside).socket_folder for inside in folder.iterdir() if inside.is_dir()]
        _remove(folder)
        for socket in sockets:
            shutil.rmtree(socket, ignore_errors=True)
        os.close(lock)


def _remove(folder: Path) -> None:
    """End all processes that work in the folder, and delete it. After a Ctrl-C during pg_ctl or pg_rewind,
    the processes that they have started may still run."""
    give_up = time.monotonic() + WAIT_SECONDS_MAX
    while folder.exists():
        end_all_in(folder, SHUTDOWN_SECONDS_MAX)
        if time.monotonic() > give_up:
            raise CannotConnect(f"cannot delete {folder}: a process still writes to it")
        shutil.rmtree(folder, ignore_errors=True)


def wait_until(holds: Callable[[], bool], otherwise: str, every_seconds: float = 0.02) -> None:
    """Wait until `holds()` is true. Raises CannotConnect, with the text `otherwise`, after a minute."""
    give_up = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        if time.monotonic() > give_up:
            raise CannotConnect(f"{otherwise} in {WAIT_SECONDS_MAX:.0f} s")
        time.sleep(every_seconds)
