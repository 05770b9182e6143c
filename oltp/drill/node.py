"""One server of the pair: made, copied, started, killed, fenced, rewound.

    NODE/data      the cluster
    NODE/fenced    the same, while it must not be started: `postgres -D NODE/data` finds nothing there

A server that comes back after its standby was promoted is a second primary, and whoever reaches it is told of
commits that nobody will keep. So it is fenced before the other one is promoted: no service, script or hand
that knows the folder by its name can start it.
"""

import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import psutil
import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from oltp.cluster import Cluster, start
from oltp.programs import CAUSE, run, server_account
from ridelake.errors import CannotConnect

# On top of what every embedded server has.
SETTINGS = {
    "shared_buffers": "128MB",  # two of them share the machine
    "max_wal_size": "1GB",
    "wal_retrieve_retry_interval": "100ms",  # the default, 5 s, is longer than all the rest of a drill
    # Who is killed takes no memory away. In its folder it goes with that; in /dev/shm it would stay.
    "dynamic_shared_memory_type": "mmap",
}
KILL_SECONDS_MAX = 20.0
CONNECT_SECONDS_MAX = 5  # of a server that hangs, the kernel goes on accepting connections


@dataclass(frozen=True, slots=True)
class Node:
    """`name` is also how the other server knows it: its application_name, and the name of its slot."""

    name: str
    folder: Path

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.folder)

    @property
    def conninfo(self) -> str:
        """Of its maintenance database, as superuser."""
        return self.cluster.conninfo("postgres")

    @property
    def fenced(self) -> Path:
        """Where its data is while it must not be started."""
        return self.folder / "fenced"

    def connect(self) -> Connection[TupleRow]:
        return psycopg.connect(self.conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS_MAX)

    def start(self, upstream: str, settings: Mapping[str, str] = SETTINGS) -> None:
        """Start it; if it is a standby, it follows the server `upstream`, a connection string. A new folder
        becomes a new primary.

        Raises CannotConnect if it is fenced, or cannot be started."""
        if self.fenced.exists():
            raise CannotConnect(
                f"{self.name} is fenced: another server was promoted in its place, and it comes back by "
                "pg_rewind, as a standby"
            )
        self.folder.mkdir(exist_ok=True)
        following = make_conninfo(upstream, application_name=self.name)
        ours = {"cluster_name": self.name, "primary_conninfo": following, "primary_slot_name": self.name}
        try:
            start(self.cluster, {**settings, **ours})
        except CannotConnect as error:  # the log will be gone with the folder
            raise CannotConnect(f"{self.name} does not start: {self._last_words()}") from error

    def keep_log(self) -> None:
        """Have its configuration say so, and with it that of its copies. pg_rewind starts a killed server by
        itself, to end what the kill broke off; that must leave the log back to where the two parted."""
        with self.connect() as connection:
            connection.execute("ALTER SYSTEM SET wal_keep_size = '256MB'")
            connection.execute("SELECT pg_reload_conf()")

    def copy(self, primary: str) -> None:
        """Become a copy of the server `primary`, a connection string, to be started as its standby."""
        self.folder.mkdir()
        source = ["-d", primary, "--create-slot", "--slot", self.name, "--wal-method=stream"]
        self._run("pg_basebackup", ["-D", self.cluster.data, *source, "--checkpoint=fast", "--no-sync"])
        self._follow(self.cluster.data)

    def kill(self) -> None:
        """SIGKILL for the whole tree: no process of it has a word to say. The postmaster goes first: the
        others could be started anew by it."""
        pid = self.cluster.server_pid()
        if pid is None:
            return
        server = psutil.Process(pid)
        tree = [server, *server.children(recursive=True)]
        for process in tree:
            _kill(process)
        _wait_until_dead(tree)

    def end(self) -> None:
        """Postgres' "immediate" shutdown: no last word to its clients, but its memory is given back."""
        pid = self.cluster.server_pid()
        if pid is None:
            return
        server = psutil.Process(pid)
        with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            server.send_signal(signal.SIGQUIT)
            server.wait(KILL_SECONDS_MAX)
        self.kill()

    def fence(self) -> None:
        """Kill what is left of it, and see to it that nobody can start it; also if somebody just has."""
        self.kill()
        self._kill_in(self.cluster.data)
        self.cluster.data.rename(self.fenced)
        self._kill_in(self.fenced)  # a supervisor was faster than the new name
        # Until somebody takes note of its end, its number still counts as a process to Postgres.
        (self.fenced / "postmaster.pid").unlink(missing_ok=True)
        (self.cluster.socket_folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _kill_in(self, data: Path) -> None:
        """Also children of a postmaster that died alone: for a moment they go on, and answer."""
        for process in psutil.process_iter(["name"]):
            if process.info["name"] == "postgres":
                try:
                    if Path(process.cwd()) == data:
                        _kill(process)
                        _wait_until_dead([process])
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue

    def rewind(self, primary: "Node") -> None:
        """Take back what the other one never had, and lift the fence: it can be started again, as the
        standby of `primary`."""
        self._run("pg_rewind", ["-D", self.fenced, "--source-server", primary.conninfo, "--no-sync"])
        self._follow(self.fenced)
        self.fenced.rename(self.cluster.data)

    def _last_words(self) -> str:
        log = self.cluster.log
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        lines = lines or ["it has said nothing"]
        return next((line for line in reversed(lines) if CAUSE.search(line)), lines[-1])

    def _follow(self, data: Path) -> None:
        (data / "standby.signal").touch()

    def _run(self, program: str, arguments: list[str | Path]) -> None:
        account = server_account(self.folder, self.fenced if self.fenced.exists() else self.cluster.data)
        run(account, program, arguments, f"{program} of {self.name} failed")


def follows(primary: Connection[TupleRow], name: str, column: str, wanted: str) -> bool:
    """Whether the standby's `state` is `streaming`, or its `sync_state` `sync`, as its primary sees it."""
    query = files("oltp.drill").joinpath("replication.sql").read_bytes()
    row = primary.execute(query, {"name": name}).fetchone()
    return row is not None and row[("state", "sync_state").index(column)] == wanted


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):  # it ended by itself when its neighbour died
        process.kill()


def _wait_until_dead(processes: Iterable[psutil.Process]) -> None:
    """Dead, if not yet buried: whose parent takes no note of its end stays a zombie."""
    give_up = time.monotonic() + KILL_SECONDS_MAX
    while any(_lives(process) for process in processes):
        if time.monotonic() > give_up:
            raise CannotConnect("a server process does not die of SIGKILL: its disk does not answer")
        time.sleep(0.002)


def _lives(process: psutil.Process) -> bool:
    try:
        alive: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return alive
