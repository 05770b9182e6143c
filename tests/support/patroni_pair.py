"""Two servers under Patroni with etcd; Patroni decides which one is the primary."""

import importlib.metadata
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from oltp.cluster.process import binaries, server_account

# The smallest values that Patroni accepts. A failed leader is detected when its key in etcd expires.
TTL_SECONDS, LOOP_WAIT_SECONDS, RETRY_SECONDS = 20, 1, 3
WAIT_SECONDS_MAX = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def with_parent_death_signal(account: int | None = None) -> list[str]:
    """A prefix for a command. Its process gets SIGTERM when the test process ends, even if that was killed.
    Patroni then stops its Postgres. With `account` the process runs as that user, because Postgres refuses
    to run as root.

    Python may be in a folder that the account cannot enter, such as /root. Therefore the process gets the
    capability to enter any folder; the permissions of folders do not change."""
    prefix = ["setpriv", "--pdeathsig", "TERM"]
    if account is not None:
        group = pwd.getpwuid(account).pw_gid
        prefix += [f"--reuid={account}", f"--regid={group}", "--clear-groups"]
        prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [*prefix, "--"]


@dataclass(slots=True)
class Member:
    """A Patroni process and its Postgres."""

    name: str
    folder: Path
    etcd: str
    account: int | None
    port: int = field(default_factory=free_port)
    api_port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def socket_folder(self) -> Path:
        return self.folder / "socket"

    @property
    def conninfo(self) -> str:
        return make_conninfo(
            host=str(self.socket_folder), port=str(self.port), user="ridelake", dbname="postgres"
        )

    def start(self) -> None:
        for folder in (self.folder, self.socket_folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            if self.account is not None:
                os.chown(folder, self.account, -1)
        settings = self.folder / "patroni.json"  # JSON is valid YAML
        settings.write_text(json.dumps(self._settings()))
        settings.chmod(0o644)
        with (self.folder.parent / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*with_parent_death_signal(self.account), sys.executable, "-m", "patroni", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"HOME": str(self.folder), "PATH": os.environ["PATH"]},
            )

    def kill(self) -> None:
        """SIGKILL Patroni and all processes of its Postgres, as if the machine failed."""
        if self.process is None:
            return
        tree = [psutil.Process(self.process.pid)]
        tree += tree[0].children(recursive=True)
        try:  # from the pid file, because the server is not a child process
            pid = int((self.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
            tree += [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except (OSError, ValueError, psutil.NoSuchProcess):
            pass
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(20)
        self.process = None

    def role(self) -> str:
        """The role that Patroni reports: primary, sync_standby, replica …; empty if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.api_port}/cluster", timeout=2) as answer:
                members = json.load(answer)["members"]
        except OSError:
            return ""
        mine = [one for one in members if one["name"] == self.name]
        return mine[0]["role"] if mine and mine[0]["state"] in ("running", "streaming") else ""

    def _settings(self) -> dict[str, Any]:
        trust = ["local all all trust", "host all all 127.0.0.1/32 trust"]
        here = f"127.0.0.1:{self.port}"
        return {
            "scope": "rides",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.api_port}"},
            "etcd3": {"host": self.etcd},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_SECONDS,
                    "loop_wait": LOOP_WAIT_SECONDS,
                    "retry_timeout": RETRY_SECONDS,
                    "synchronous_mode": True,
                    "postgresql": {"use_pg_rewind": True, "use_slots": True},
                },
                "initdb": [
                    {"encoding": "UTF8"},
                    {"locale-provider": "builtin"},
                    {"locale": "C.UTF-8"},
                    {"auth": "trust"},
                ],
            },
            "postgresql": {
                "listen": here,
                "connect_address": here,
                "data_dir": str(self.folder / "data"),
                "bin_dir": str(binaries()),
                "pgpass": str(self.folder / "pgpass"),
                "use_unix_socket": True,
                "authentication": {
                    "superuser": {"username": "ridelake"},
                    "replication": {"username": "follower"},
                    "rewind": {"username": "rewinder"},
                },
                "pg_hba": [*trust, "host replication all 127.0.0.1/32 trust"],
                "parameters": {
                    "unix_socket_directories": str(self.socket_folder),
                    "shared_buffers": "128MB",
                    "dynamic_shared_memory_type": "mmap",  # in the data folder, deleted with it
                    "wal_keep_size": "128MB",
                },
            },
        }


@dataclass(frozen=True, slots=True)
class PatroniPair:
    members: tuple[Member, Member]

    @property
    def dsn(self) -> str:
        return make_conninfo(
            host=",".join(str(one.socket_folder) for one in self.members),
            port=",".join(str(one.port) for one in self.members),
            user="ridelake",
            dbname="rides",
        )

    def member(self, role: str) -> Member:
        """Wait for a member with this role, and return it."""
        found: list[Member] = []

        def has_role() -> bool:
            found[:] = [one for one in self.members if one.role() == role]
            return len(found) == 1

        wait_until(has_role, f"no {role}")
        return found[0]


@contextmanager
def patroni_pair() -> Iterator[PatroniPair]:
    """Skips the test if Patroni or etcd is not installed."""
    if not any(importlib.metadata.distributions(name="patroni")):
        pytest.skip("Patroni is not installed (pip install 'patroni[etcd3]')")
    for program, package in (("etcd", "etcd-server"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: {package})")
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="ridelake-patroni-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        home.chmod(0o711)
        account = server_account(home, home / "data")
        etcd = stack.enter_context(_etcd(home))
        members = (Member("a", home / "a", etcd, account), Member("b", home / "b", etcd, account))
        for member in members:
            stack.callback(member.kill)
        pair = PatroniPair(members)
        members[0].start()
        pair.member("leader")
        members[1].start()
        pair.member("sync_standby")
        yield pair


@contextmanager
def _etcd(home: Path) -> Iterator[str]:
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    with (home / "etcd.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(*with_parent_death_signal(), "etcd", "--name", "only", "--data-dir", str(home / "etcd")),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"only={peer}"),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _healthy(client), "etcd does not answer")
        yield client.removeprefix("http://")
    finally:
        process.terminate()
        process.wait(20)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(json.load(answer)["health"] == "true")
    except OSError:
        return False


def wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        assert time.monotonic() < until, f"{otherwise} in {WAIT_SECONDS_MAX:.0f} s"
        time.sleep(0.2)


def leads(member: Member) -> bool:
    with psycopg.connect(member.conninfo) as connection:
        return connection.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,)
