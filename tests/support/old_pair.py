"""A primary and a standby of another Postgres version than the embedded one."""

import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@dataclass(frozen=True, slots=True)
class OldPair:
    """`a` is the first primary. The data and the socket of each server are in a folder with its name."""

    programs: Path
    folder: Path
    account: int | None

    @property
    def dsn(self) -> str:
        hosts = ",".join(str(self.folder / name) for name in "ab")
        return make_conninfo(host=hosts, user="ridelake", dbname="rides")

    def conninfo(self, name: str) -> str:
        return make_conninfo(host=str(self.folder / name), user="ridelake", dbname="postgres")

    def make(self) -> None:
        for name in "ab":
            (self.folder / name).mkdir(mode=0o700)
            for path in (self.folder, self.folder / name):
                if self.account is not None:
                    os.chown(path, self.account, -1)
        words = ["--auth=trust", "--username=ridelake", "--no-sync", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", "-D", str(self.folder / "a" / "data"), *words)

    def copy(self) -> None:
        source = ["-d", self.conninfo("a"), "--write-recovery-conf", "--create-slot", "--slot=b"]
        self._run("pg_basebackup", "-D", str(self.folder / "b" / "data"), *source, "--checkpoint=fast")

    def start(self, name: str, **settings: str) -> None:
        folder = self.folder / name
        settings |= {"unix_socket_directories": str(folder), "listen_addresses": "", "cluster_name": name}
        options = shlex.join(word for key, value in settings.items() for word in ("-c", f"{key}={value}"))
        where = ["-D", str(folder / "data"), "-l", str(folder / "log")]
        self._run("pg_ctl", "start", "-w", *where, "-o", options)

    def kill(self, name: str) -> None:
        """SIGKILL the whole process tree."""
        pid_file = self.folder / name / "data" / "postmaster.pid"
        if not pid_file.exists():
            return
        try:
            server = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
            tree = [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(tree, timeout=20)
        pid_file.unlink()

    def promote(self) -> None:
        with psycopg.connect(self.conninfo("b"), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.programs / program, *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self.account,
        )


@contextmanager
def old_pair(programs: Path) -> Iterator[OldPair]:
    """The pair, not started. `a` must have its data before `copy`."""
    account = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else None
    pair = OldPair(programs, Path(tempfile.mkdtemp(prefix="ridelake-old-")), account)
    try:
        pair.make()
        yield pair
    finally:
        for name in "ab":
            pair.kill(name)
        shutil.rmtree(pair.folder, ignore_errors=True)
